//! A batch on its way through a network: its integers on the device, and the rules for this pass.

use std::{cell::Cell, sync::Arc};

use anyhow::Result;
use burn::tensor::Tensor;

use super::parameters::{MatrixId, Parameters, VectorId};
use crate::{
    batch::Batch,
    kernels::{Dropout, Ids, Visible},
};

/// Whether a pass is to be learned from.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Mode {
    /// Gradients are recorded, and activations dropped with this probability.
    Train {
        /// Probability in embeddings, attention and residual branches.
        dropout: f32,
    },
    /// Nothing is recorded or dropped.
    Evaluate,
}

/// What blocks need beside their input.
pub struct Pass<'a> {
    parameters: &'a Parameters,
    mode: Mode,
    dropout_keys: Arc<[u32]>,
    dropout_sites: Cell<u32>,
    /// Token ids.
    pub tokens: Ids,
    /// Positions.
    pub positions: Ids,
    /// GLM's second positions.
    pub block_positions: Ids,
    /// BERT's token types.
    pub segments: Ids,
    /// Which keys each token sees.
    pub visible: Visible,
}

impl<'a> Pass<'a> {
    /// Uploads a batch, in which each token sees its keys up to `visible_to`.
    ///
    /// # Errors
    /// Visible keys outside of their row.
    pub fn new(parameters: &'a Parameters, batch: &Batch, visible_to: &[u32], mode: Mode) -> Result<Self> {
        let device = parameters.device();
        let ids = |values: &[u32]| Ids::new(values, device);
        Ok(Self {
            parameters,
            mode,
            dropout_keys: Arc::from(&batch.dropout_keys[..]),
            dropout_sites: Cell::new(0),
            tokens: ids(&batch.tokens),
            positions: ids(&batch.positions),
            block_positions: ids(&batch.block_positions),
            segments: match batch.segments.is_empty() {
                true => ids(&vec![0; batch.tokens.len()]),
                false => ids(&batch.segments),
            },
            visible: Visible::new(&batch.visible_from, visible_to, batch.rows, batch.width, device)?,
        })
    }

    /// The value of a vector.
    pub fn vector(&self, id: VectorId) -> Tensor<1> {
        let value = self.parameters.vector(id).clone();
        if self.mode == Mode::Evaluate { value.inner() } else { value }
    }

    /// The value of a matrix.
    pub fn matrix(&self, id: MatrixId) -> Tensor<2> {
        let value = self.parameters.matrix(id).clone();
        if self.mode == Mode::Evaluate { value.inner() } else { value }
    }

    /// The dropout of the next place in the network; places count up in the order of the calls.
    pub fn dropout(&self) -> Option<Dropout> {
        let site = self.dropout_sites.get();
        self.dropout_sites.set(site + 1);
        match self.mode {
            Mode::Train { dropout } if dropout > 0.0 => {
                Some(Dropout { p: dropout, keys: Arc::clone(&self.dropout_keys), site })
            }
            _ => None,
        }
    }
}
