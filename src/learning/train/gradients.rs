//! Gradients of one step, added up over its batches.

use std::sync::Arc;

use anyhow::Result;
use burn::tensor::Tensor;

use crate::network::model::{AnyTensor, Parameters, RowGradients, first_not_finite};

/// A gradient for each parameter that took part, in the parameters' order.
pub(super) struct Gradients(pub(super) Vec<Option<Gradient>>);

/// The gradient of one parameter.
#[derive(Clone, Debug)]
pub(super) struct Gradient {
    /// Of all of it, or of some rows.
    pub(super) value: AnyTensor,
    /// Which rows, ascending, where it's a table that has no gradients of others.
    pub(super) rows: Option<Arc<[u32]>>,
}

impl From<AnyTensor> for Gradient {
    fn from(value: AnyTensor) -> Self {
        Self { value, rows: None }
    }
}

impl From<RowGradients> for Gradient {
    fn from(RowGradients { rows, values }: RowGradients) -> Self {
        Self { value: values.into(), rows: Some(rows) }
    }
}

impl Gradient {
    fn plus(self, other: Self) -> Self {
        match (self.rows, other.rows) {
            (Some(rows), Some(others)) => {
                let gradients = |rows, value| RowGradients { rows, values: matrix(value) };
                gradients(rows, self.value).plus(gradients(others, other.value)).into()
            }
            _ => (self.value + other.value).into(),
        }
    }

    /// The same for more rows than these, where it's of rows.
    pub(super) fn among(self, rows: &Arc<[u32]>) -> Self {
        match self.rows {
            Some(own) => {
                let values = RowGradients { rows: own, values: matrix(self.value) }.among(rows);
                Self { value: values.into(), rows: Some(Arc::clone(rows)) }
            }
            None => self,
        }
    }
}

fn matrix(value: AnyTensor) -> Tensor<2> {
    value.try_into().unwrap_or_else(|_| unreachable!("rows are those of a matrix"))
}

impl Gradients {
    /// Of no loss yet. What a pass has left that came to nothing is forgotten.
    pub(super) fn none(parameters: &Parameters) -> Self {
        parameters.iter().filter_map(|parameter| parameter.row_sink.as_ref()).for_each(|sink| drop(sink.take()));
        Self(vec![None; parameters.len()])
    }

    /// Goes back from a loss of one element and adds what it finds.
    pub(super) fn add(&mut self, parameters: &Parameters, loss: &Tensor<1>) {
        let mut found = loss.backward();
        for (sum, parameter) in self.0.iter_mut().zip(parameters.iter()) {
            let gradient = match &parameter.row_sink {
                Some(sink) => sink.take().map(Gradient::from),
                None => parameter.value.grad_remove(&mut found).map(Gradient::from),
            };
            *sum = match (sum.take(), gradient) {
                (Some(sum), Some(gradient)) => Some(sum.plus(gradient)),
                (sum, gradient) => sum.or(gradient),
            };
        }
    }

    /// Multiplies all of them.
    pub(super) fn multiply(&mut self, factor: f32) {
        for gradient in &mut self.0 {
            *gradient = gradient.take().map(|Gradient { value, rows }| Gradient { value: value * factor, rows });
        }
    }

    /// Whether all elements are; waits for the device.
    ///
    /// # Errors
    /// The device's.
    pub(super) fn are_finite(&self) -> Result<bool> {
        Ok(first_not_finite(self.values().cloned())?.is_none())
    }

    /// The parameter with the first gradient that isn't finite; waits for the device.
    ///
    /// # Errors
    /// The device's.
    pub(super) fn first_not_finite<'a>(&self, parameters: &'a Parameters) -> Result<Option<&'a str>> {
        let Some(at) = first_not_finite(self.values().cloned())? else { return Ok(None) };
        let there = self.0.iter().zip(parameters.iter()).filter(|(gradient, _)| gradient.is_some());
        Ok(there.map(|(_, parameter)| parameter.name.as_str()).nth(at))
    }

    /// All elements there are.
    pub(super) fn values(&self) -> impl Iterator<Item = &AnyTensor> {
        self.0.iter().flatten().map(|gradient| &gradient.value)
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
        let read = |gradient: Gradient| gradient.value.into_data().unwrap().try_to_vec::<f32>().unwrap();
        let found: Vec<_> = gradients.0.into_iter().map(|gradient| gradient.map(read)).collect();
        assert_eq!(found, [Some(vec![3.0; 2]), Some(vec![1.0; 2]), Some(vec![0.0; 2]), None]);
    }
}
