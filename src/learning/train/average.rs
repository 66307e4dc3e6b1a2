//! A moving average of the weights, which is what is measured and kept in their place: `ema ← d ema + (1 - d) p` after each step,
//! beginning with the weights after the first, as PyTorch's `AveragedModel` has it with `get_ema_multi_avg_fn(d)` (Polyak and
//! Juditsky 1992 for why; Tarvainen and Valpola 2017, <https://arxiv.org/abs/1703.01780>, in this form).

use anyhow::{Context, Result, ensure};
use burn::tensor::TensorData;

use crate::network::model::{
    AnyTensor, Parameters,
    tensors::{Reader, TensorEntry},
};

/// What names of averages begin with in states.
const SLOT: &str = "average";

/// Averages of all that is learned.
pub(super) struct Average {
    decay: f32,
    /// In the parameters' order, none of frozen ones; empty before the first step.
    values: Vec<Option<AnyTensor>>,
}

impl Average {
    /// Before the first step.
    pub(super) fn new(decay: f64) -> Self {
        Self { decay: decay as f32, values: Vec::new() }
    }

    /// Notes the weights after a step.
    pub(super) fn note(&mut self, parameters: &Parameters) {
        let learned = parameters.iter().map(|one| one.is_trainable().then(|| one.value.clone().inner()));
        if self.values.is_empty() {
            self.values = learned.collect();
            return;
        }
        for (average, value) in self.values.iter_mut().zip(learned) {
            *average = average.take().zip(value).map(|(average, value)| follow(average, value, 1.0 - self.decay));
        }
    }

    /// Puts the averages in the parameters' place, and returns the parameters as they were.
    pub(super) fn replace(&self, parameters: &mut Parameters) -> Parameters {
        let before = parameters.clone();
        for (parameter, average) in parameters.iter_mut().zip(&self.values) {
            if let Some(average) = average {
                parameter.set(average.clone());
            }
        }
        before
    }

    /// For writing: each under the parameter's name behind that of what it is.
    pub(super) fn entries<'a>(&'a self, parameters: &'a Parameters) -> Vec<TensorEntry<'a>> {
        let entry = |(name, average): (&str, &'a AnyTensor)| {
            TensorEntry::single(format!("{SLOT}.{name}"), average.shape(), || average.clone().into_data())
        };
        let named = parameters.iter().map(|parameter| &parameter.name[..]).zip(&self.values);
        named.filter_map(|(name, average)| Some(entry((name, average.as_ref()?)))).collect()
    }

    /// The same average where a state was written.
    ///
    /// # Errors
    /// Those of reading.
    pub(super) fn read(&self, parameters: &Parameters, reader: &Reader) -> Result<Self> {
        let mut values = Vec::new();
        for parameter in parameters.iter() {
            let (name, shape) = (format!("{SLOT}.{}", parameter.name), parameter.shape());
            values.push(match parameter.is_trainable() {
                true => {
                    ensure!(reader.shape(&name) == Some(&shape[..]), "{name} is missing or has another shape");
                    let value = AnyTensor::from_data(TensorData::new(reader.read(&name)?, shape), parameters.device());
                    Some(value.with_context(|| format!("{name} is neither a vector nor a matrix"))?)
                }
                false => None,
            });
        }
        Ok(Self { decay: self.decay, values })
    }
}

/// The average after one more value; in place on the CPU.
fn follow(average: AnyTensor, value: AnyTensor, gained: f32) -> AnyTensor {
    let mut average = Some(average);
    let in_place = value.with_slice(|values| {
        let follow = |averages: &mut [f32]| {
            averages.iter_mut().zip(values).for_each(|(average, value)| *average += gained * (value - *average));
        };
        Some(average.take()?.with_slice_mut(follow))
    });
    let average = match in_place.flatten() {
        Some(Ok(average)) => return average,
        Some(Err(average)) => Some(average),
        None => average,
    };
    match average {
        Some(average) => average.clone() + (value - average) * gained,
        None => value,
    }
}

#[cfg(test)]
mod tests {
    use burn::tensor::{Device, Tensor};

    use super::*;
    use crate::network::model::{Builder, Initial, Initializer};

    /// PyTorch 2's `AveragedModel(model, multi_avg_fn=get_ema_multi_avg_fn(0.9))`, updated with these weights of a
    /// `torch.nn.Linear(2, 1)`, and its weights after that.
    #[test]
    fn averages_are_those_of_pytorch() {
        const WEIGHTS: [[f32; 3]; 4] = [[1.0, -2.0, 0.5], [2.0, 0.25, -1.0], [-0.5, 1.5, 3.0], [0.0, 4.0, -2.5]];
        const EXPECTED: [f32; 3] = [0.846, -0.902_75, 0.3035];
        let device = Device::flex();
        let mut parameters = Parameters::new(&device);
        Builder::new(&mut parameters, &mut Initializer { seed: 0 }).vector("bias".into(), 3, Initial::Zeros);
        let mut average = Average::new(0.9);
        for weights in WEIGHTS {
            parameters.iter_mut().for_each(|one| one.set(Tensor::<1>::from_floats(weights, &device)));
            average.note(&parameters);
        }
        let last = average.replace(&mut parameters);
        let values = |parameters: &Parameters| -> Vec<f32> {
            parameters.iter().flat_map(|one| one.data().unwrap().try_to_vec::<f32>().unwrap()).collect()
        };
        assert_eq!(values(&last), WEIGHTS[3]);
        for (found, expected) in values(&parameters).iter().zip(EXPECTED) {
            assert!((found - expected).abs() < 1e-6, "{found} instead of {expected}");
        }
    }
}
