//! Gradient accumulation on one device.

use burn::tensor::Tensor;

use super::gradients::Gradients;
use crate::network::model::Network;

/// Gradients and losses, added up over micro-batches.
pub(super) struct Accumulated {
    pub(super) gradients: Gradients,
    pub(super) loss: Option<Tensor<1>>,
    /// What losses are multiplied by before the backward pass, where f16 needs it.
    scale: Option<f32>,
}

impl Accumulated {
    /// Nothing yet.
    pub(super) fn new(network: &Network, scale: Option<f32>) -> Self {
        Self { gradients: Gradients::none(network.parameters()), loss: None, scale }
    }

    /// Adds a loss of one element and its gradients.
    pub(super) fn add(&mut self, network: &Network, loss: Tensor<1>) {
        match self.scale {
            Some(scale) => self.gradients.add(network.parameters(), &loss.clone().mul_scalar(scale)),
            None => self.gradients.add(network.parameters(), &loss),
        }
        let loss = loss.inner();
        self.loss = Some(match self.loss.take() {
            Some(sum) => sum + loss,
            None => loss,
        });
    }
}
