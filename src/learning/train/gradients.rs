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

#[cfg(test)]
mod tests {
    use burn::tensor::Device;

    use super::*;
    use crate::network::model::{Builder, Initial, Initializer};

    #[test]
    fn a_parameter_has_a_gradient_if_any_loss_has_one_for_it_and_zeros_are_one() {
        let mut parameters = Parameters::new(&Device::flex());
        let mut source = Initializer { seed: 0 };
        let mut builder = Builder::new(&mut parameters, &mut source);
        for name in ["first", "second", "third", "fourth"] {
            builder.vector(name.into(), 2, Initial::Ones);
        }
        let values: Vec<Tensor<1>> = parameters.iter().map(|one| one.value.as_vector().unwrap().clone()).collect();
        let mut gradients = Gradients::none(&parameters);
        gradients.add(&parameters, &values[0].clone().sum());
        gradients.add(&parameters, &(values[0].clone().sum() * 2.0 + values[1].clone().sum()));
        gradients.add(&parameters, &(values[2].clone() * 0.0).sum());
        let read = |gradient: AnyTensor| gradient.into_data().unwrap().try_to_vec::<f32>().unwrap();
        let found: Vec<_> = gradients.0.into_iter().map(|gradient| gradient.map(read)).collect();
        assert_eq!(found, [Some(vec![3.0; 2]), Some(vec![1.0; 2]), Some(vec![0.0; 2]), None]);
    }
}
