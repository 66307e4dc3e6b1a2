//! How a pass sees the parameters: tracked by autodiff, detached from it, or as leaves of a graph of its own.

use std::{cell::RefCell, collections::BTreeMap};

use burn::tensor::Tensor;

use super::any_tensor::AnyTensor;

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

/// Copies of parameters that collect gradients, by their places in the list of parameters.
pub(super) type Leaves = BTreeMap<usize, AnyTensor>;

impl ParameterView {
    /// In place of the parameter at a place of the list.
    pub(super) fn of<const D: usize>(&self, place: usize, value: &Tensor<D>) -> Tensor<D>
    where
        Tensor<D>: Into<AnyTensor> + TryFrom<AnyTensor>,
    {
        match self {
            Self::Tracked => value.clone(),
            Self::Detached => value.clone().inner(),
            Self::Leaves(leaves) => {
                let leaf = leaves.borrow_mut().entry(place).or_insert_with(|| leaf(value).into()).clone();
                leaf.try_into().unwrap_or_else(|_| unreachable!("a place has one parameter"))
            }
        }
    }
}

fn leaf<const D: usize>(value: &Tensor<D>) -> Tensor<D> {
    value.clone().inner().autodiff().set_require_grad(value.is_require_grad())
}
