//! Gradients of one step, added up over its batches.

use anyhow::Result;
use burn::tensor::Tensor;

use crate::network::model::{AnyTensor, Parameters, are_finite};

/// A gradient for each parameter that took part, in the parameters' order.
pub(super) struct Gradients(pub(super) Vec<Option<AnyTensor>>);

impl Gradients {
    /// Of no loss yet.
    pub(super) fn none(parameters: &Parameters) -> Self {
        Self(vec![None; parameters.len()])
    }

    /// Goes back from a loss of one element and adds what it finds.
    pub(super) fn add(&mut self, parameters: &Parameters, loss: &Tensor<1>) {
        let mut found = loss.backward();
        for (sum, parameter) in self.0.iter_mut().zip(parameters.iter()) {
            *sum = match (sum.take(), parameter.value.grad_remove(&mut found)) {
                (Some(sum), Some(gradient)) => Some(sum + gradient),
                (sum, gradient) => sum.or(gradient),
            };
        }
    }

    /// Multiplies all of them.
    pub(super) fn multiply(&mut self, factor: f32) {
        self.0.iter_mut().for_each(|gradient| *gradient = gradient.take().map(|gradient| gradient * factor));
    }

    /// Whether all elements are; waits for the device.
    ///
    /// # Errors
    /// The device's.
    pub(super) fn are_finite(&self) -> Result<bool> {
        are_finite(self.0.iter().flatten().cloned())
    }
}
