//! Gradients of one step, added up over its batches.

use anyhow::{Result, anyhow};
use burn::tensor::Tensor;

use crate::network::model::{Parameter, Parameters};

/// A gradient for each parameter that took part, in the parameters' order.
pub(super) struct Gradients {
    pub(super) vectors: Vec<Option<Tensor<1>>>,
    pub(super) matrices: Vec<Option<Tensor<2>>>,
}

impl Gradients {
    /// Of no loss yet.
    pub(super) fn none(parameters: &Parameters) -> Self {
        Self { vectors: vec![None; parameters.vectors.len()], matrices: vec![None; parameters.matrices.len()] }
    }

    /// Goes back from a loss of one element and adds what it finds.
    pub(super) fn add(&mut self, parameters: &Parameters, loss: &Tensor<1>) {
        let mut found = loss.backward();
        add(&mut self.vectors, &parameters.vectors, &mut found);
        add(&mut self.matrices, &parameters.matrices, &mut found);
    }

    /// Multiplies all of them.
    pub(super) fn multiply(&mut self, factor: f32) {
        self.vectors.iter_mut().for_each(|gradient| *gradient = gradient.take().map(|gradient| gradient * factor));
        self.matrices.iter_mut().for_each(|gradient| *gradient = gradient.take().map(|gradient| gradient * factor));
    }

    /// Whether all numbers are; waits for the device.
    ///
    /// # Errors
    /// The device's.
    pub(super) fn are_finite(&self) -> Result<bool> {
        let vectors = self.vectors.iter().flatten().map(|gradient| gradient.clone().abs().sum());
        let matrices = self.matrices.iter().flatten().map(|gradient| gradient.clone().abs().sum());
        let sums: Vec<Tensor<1>> = vectors.chain(matrices).collect();
        if sums.is_empty() {
            return Ok(true);
        }
        let sums: Vec<f32> =
            Tensor::cat(sums, 0).try_into_vec_as().map_err(|error| anyhow!("can't read gradients: {error:?}"))?;
        Ok(sums.iter().all(|sum| sum.is_finite()))
    }
}

fn add<const D: usize>(
    sums: &mut [Option<Tensor<D>>],
    parameters: &[Parameter<D>],
    found: &mut burn::tensor::Gradients,
) {
    for (sum, parameter) in sums.iter_mut().zip(parameters) {
        *sum = match (sum.take(), parameter.value.grad_remove(found)) {
            (Some(sum), Some(gradient)) => Some(sum + gradient),
            (sum, gradient) => sum.or(gradient),
        };
    }
}
