//! How a pass sees the parameters: tracked by autodiff, detached from it, or as leaves of a graph of its own.

use std::{cell::RefCell, collections::BTreeMap};

use burn::tensor::Tensor;

use super::ids::{MatrixId, VectorId};

/// How a pass sees the parameters.
#[derive(Debug, Default)]
pub(super) enum ParameterView {
    /// The parameters themselves, tracked by autodiff.
    #[default]
    Tracked,
    /// Detached values: nothing is recorded.
    Detached,
    /// Leaves of a graph of its own, made as they're asked for.
    Leaves(RefCell<Leaves>),
}

/// Copies of parameters that collect gradients.
#[derive(Debug, Default)]
pub(super) struct Leaves {
    pub(super) vectors: BTreeMap<VectorId, Tensor<1>>,
    pub(super) matrices: BTreeMap<MatrixId, Tensor<2>>,
}

impl ParameterView {
    /// In place of a vector.
    pub(super) fn vector(&self, id: VectorId, value: &Tensor<1>) -> Tensor<1> {
        match self {
            Self::Tracked => value.clone(),
            Self::Detached => value.clone().inner(),
            Self::Leaves(leaves) => leaves.borrow_mut().vectors.entry(id).or_insert_with(|| leaf(value)).clone(),
        }
    }

    /// In place of a matrix.
    pub(super) fn matrix(&self, id: MatrixId, value: &Tensor<2>) -> Tensor<2> {
        match self {
            Self::Tracked => value.clone(),
            Self::Detached => value.clone().inner(),
            Self::Leaves(leaves) => leaves.borrow_mut().matrices.entry(id).or_insert_with(|| leaf(value)).clone(),
        }
    }
}

fn leaf<const D: usize>(value: &Tensor<D>) -> Tensor<D> {
    value.clone().inner().autodiff().set_require_grad(value.is_require_grad())
}
