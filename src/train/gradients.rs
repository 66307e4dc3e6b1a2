//! Gradients of one step, added up over its batches.

use burn::tensor::Tensor;

use crate::model::{Parameter, Parameters};

/// A gradient for each parameter that took part, in the parameters' order.
#[derive(Default)]
pub(super) struct Gradients {
    pub(super) vectors: Vec<Option<Tensor<1>>>,
    pub(super) matrices: Vec<Option<Tensor<2>>>,
}

impl Gradients {
    /// Goes back from a loss of one element and adds what it finds.
    pub(super) fn add(&mut self, parameters: &Parameters, loss: &Tensor<1>) {
        let mut found = loss.backward();
        add(&mut self.vectors, &parameters.vectors, &mut found);
        add(&mut self.matrices, &parameters.matrices, &mut found);
    }
}

fn add<const D: usize>(
    sums: &mut Vec<Option<Tensor<D>>>,
    parameters: &[Parameter<D>],
    found: &mut burn::tensor::Gradients,
) {
    sums.resize(parameters.len(), None);
    for (sum, parameter) in sums.iter_mut().zip(parameters) {
        *sum = match (sum.take(), parameter.value.grad_remove(found)) {
            (Some(sum), Some(gradient)) => Some(sum + gradient),
            (sum, gradient) => sum.or(gradient),
        };
    }
}
