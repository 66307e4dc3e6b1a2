//! Gradient accumulation on one device.

use anyhow::Result;
use burn::tensor::Tensor;

use super::gradients::Gradients;
use crate::network::model::{AnyTensor, Network, first_not_finite};

/// A micro-batch's loss of one element, and the parts of it that are told by themselves, which have no gradients.
pub(super) struct Losses {
    pub(super) total: Tensor<1>,
    pub(super) parts: Vec<Tensor<1>>,
}

impl Losses {
    /// This share of them.
    pub(super) fn over(self, batches: f32) -> Self {
        Self { total: self.total / batches, parts: self.parts.into_iter().map(|part| part / batches).collect() }
    }
}

/// Gradients and losses, added up over micro-batches.
pub(super) struct Accumulated {
    pub(super) gradients: Gradients,
    /// The loss and its parts, `[1 + parts]`.
    pub(super) loss: Option<Tensor<1>>,
    /// What losses are multiplied by before the backward pass, where f16 needs it.
    scale: Option<f32>,
}

impl Accumulated {
    /// Nothing yet.
    pub(super) fn new(network: &Network, scale: Option<f32>) -> Self {
        Self { gradients: Gradients::none(network.parameters()), loss: None, scale }
    }

    /// Adds a loss and its gradients.
    pub(super) fn add(&mut self, network: &Network, losses: Losses) {
        let Losses { total, mut parts } = losses;
        match self.scale {
            Some(scale) => self.gradients.add(network.parameters(), &total.clone().mul_scalar(scale)),
            None => self.gradients.add(network.parameters(), &total),
        }
        let loss = match parts.is_empty() {
            true => total.inner(),
            false => {
                parts.insert(0, total.inner());
                Tensor::cat(parts, 0)
            }
        };
        self.loss = Some(match self.loss.take() {
            Some(sum) => sum + loss,
            None => loss,
        });
    }

    /// Waits until they're computed, and reads of all of them: a device that runs behind tells then only what its memory didn't
    /// suffice for.
    ///
    /// # Errors
    /// The device's.
    pub(super) fn wait(&self) -> Result<()> {
        let loss = self.loss.clone().map(AnyTensor::from);
        first_not_finite(self.gradients.values().cloned().chain(loss)).map(|_| ())
    }
}
