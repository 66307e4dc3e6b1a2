//! AdamW as PyTorch has it: decoupled weight decay, corrected bias, gradients clipped by their common norm.

use anyhow::{Result, anyhow, ensure};
use burn::tensor::{Device, Tensor, TensorData};

use super::gradients::Gradients;
use crate::{
    network::{
        kernels::{self, moved},
        model::{Parameter, Parameters},
    },
    spec,
};

/// Added to the norm before dividing by it, as `clip_grad_norm_` does.
const NORM_EPSILON: f64 = 1e-6;

/// What stays the same from step to step.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct AdamWSettings {
    /// Decay of the mean of gradients.
    pub beta1: f64,
    /// Decay of the mean of squared gradients.
    pub beta2: f64,
    /// Keeps the division finite.
    pub epsilon: f64,
    /// Share of the learning rate by which matrices shrink; vectors don't.
    pub weight_decay: f64,
    /// The norm to which gradients are clipped; 0 turns it off.
    pub max_grad_norm: f64,
}

impl AdamWSettings {
    /// As a recipe has it.
    pub fn new(train: &spec::Train) -> Self {
        Self {
            beta1: train.beta1,
            beta2: train.beta2,
            epsilon: train.epsilon,
            weight_decay: train.weight_decay,
            max_grad_norm: train.max_grad_norm,
        }
    }
}

/// The optimiser and its moments.
pub struct AdamW {
    settings: AdamWSettings,
    /// Steps so far.
    pub(super) steps: u64,
    pub(super) vectors: Vec<Option<Moments<1>>>,
    pub(super) matrices: Vec<Option<Moments<2>>>,
}

/// Decaying means of a parameter's gradients and of their squares; there once it had a gradient.
#[derive(Clone)]
#[expect(
    clippy::large_enum_variant,
    reason = "there are a few hundred of them, and each stands for thousands of numbers"
)]
pub(super) enum Moments<const D: usize> {
    /// On the CPU, changed in place.
    Host { mean: Vec<f32>, square: Vec<f32> },
    /// Elsewhere.
    Device { mean: Tensor<D>, square: Tensor<D> },
}

impl<const D: usize> Moments<D> {
    fn on(&self, device: &Device) -> Result<Self> {
        Ok(match self {
            Self::Host { mean, square } => Self::Host { mean: mean.clone(), square: square.clone() },
            Self::Device { mean, square } => {
                Self::Device { mean: moved(mean.clone(), device)?, square: moved(square.clone(), device)? }
            }
        })
    }
}

impl AdamW {
    /// Before the first step.
    pub fn new(settings: AdamWSettings) -> Self {
        Self { settings, steps: 0, vectors: Vec::new(), matrices: Vec::new() }
    }

    /// The same for a replica on another device of the backend.
    ///
    /// # Errors
    /// The devices'.
    pub(super) fn on(&self, device: &Device) -> Result<Self> {
        fn on<const D: usize>(moments: &[Option<Moments<D>>], device: &Device) -> Result<Vec<Option<Moments<D>>>> {
            moments.iter().map(|moments| moments.as_ref().map(|moments| moments.on(device)).transpose()).collect()
        }
        let (vectors, matrices) = (on(&self.vectors, device)?, on(&self.matrices, device)?);
        Ok(Self { settings: self.settings, steps: self.steps, vectors, matrices })
    }

    /// Changes the parameters that have gradients, and gives the norm of all gradients before clipping, one element.
    ///
    /// # Errors
    /// The device's.
    pub(super) fn step(&mut self, parameters: &mut Parameters, gradients: Gradients, rate: f64) -> Result<Tensor<1>> {
        self.steps += 1;
        self.vectors.resize(parameters.vectors.len(), None);
        self.matrices.resize(parameters.matrices.len(), None);
        if *parameters.device() == Device::flex() {
            self.step_on_host(parameters, gradients, rate)
        } else {
            Ok(self.step_on_device(parameters, gradients, rate))
        }
    }

    fn step_on_host(&mut self, parameters: &mut Parameters, gradients: Gradients, rate: f64) -> Result<Tensor<1>> {
        let vectors = host(gradients.vectors)?;
        let matrices = host(gradients.matrices)?;
        let mut slices = Vec::new();
        for data in vectors.iter().chain(&matrices).flatten() {
            slices.push(data.as_slice::<f32>().map_err(|error| anyhow!("a gradient isn't f32: {error:?}"))?);
        }
        let norm = kernels::global_norm(&slices);
        let clip = self.clip(norm);
        let (without_decay, with_decay) = (self.rule(rate, 0.0), self.rule(rate, self.settings.weight_decay));
        update_on_host(&mut parameters.vectors, &vectors, &mut self.vectors, without_decay, clip)?;
        update_on_host(&mut parameters.matrices, &matrices, &mut self.matrices, with_decay, clip)?;
        Ok(Tensor::from_data([norm as f32], parameters.device()))
    }

    fn step_on_device(&mut self, parameters: &mut Parameters, gradients: Gradients, rate: f64) -> Tensor<1> {
        let (vectors, matrices) = (gradients.vectors.iter().flatten(), gradients.matrices.iter().flatten());
        let norm = kernels::norm(&parameters.device().clone().inner(), vectors, matrices);
        let clip = (self.settings.max_grad_norm > 0.0)
            .then(|| norm.clone().add_scalar(NORM_EPSILON).recip() * self.settings.max_grad_norm)
            .map(|clip| clip.clamp_max(1.0));
        let (without_decay, with_decay) = (self.rule(rate, 0.0), self.rule(rate, self.settings.weight_decay));
        update(&mut parameters.vectors, gradients.vectors, &mut self.vectors, without_decay, clip.as_ref());
        update(&mut parameters.matrices, gradients.matrices, &mut self.matrices, with_decay, clip.as_ref());
        norm
    }

    fn rule(&self, rate: f64, weight_decay: f64) -> kernels::AdamW {
        kernels::AdamW {
            lr: rate as f32,
            beta1: self.settings.beta1 as f32,
            beta2: self.settings.beta2 as f32,
            eps: self.settings.epsilon as f32,
            weight_decay: weight_decay as f32,
            step: self.steps,
        }
    }

    /// What gradients of this norm are multiplied by.
    fn clip(&self, norm: f64) -> f32 {
        let limit = self.settings.max_grad_norm;
        if limit > 0.0 { (limit / (norm + NORM_EPSILON)).min(1.0) as f32 } else { 1.0 }
    }
}

/// The gradients' values; no copy where nobody else holds them.
fn host<const D: usize>(gradients: Vec<Option<Tensor<D>>>) -> Result<Vec<Option<TensorData>>> {
    let read = |tensor: Tensor<D>| tensor.try_into_data().map_err(|error| anyhow!("can't read a gradient: {error}"));
    gradients.into_iter().map(|gradient| gradient.map(read).transpose()).collect()
}

fn update_on_host<const D: usize>(
    parameters: &mut [Parameter<D>],
    gradients: &[Option<TensorData>],
    moments: &mut [Option<Moments<D>>],
    rule: kernels::AdamW,
    clip: f32,
) -> Result<()> {
    for ((parameter, gradient), moments) in parameters.iter_mut().zip(gradients).zip(moments) {
        let Some(gradient) = gradient else { continue };
        let gradient = gradient.as_slice::<f32>().map_err(|error| anyhow!("a gradient isn't f32: {error:?}"))?;
        let zeros = || vec![0.0; gradient.len()];
        let moments = moments.get_or_insert_with(|| Moments::Host { mean: zeros(), square: zeros() });
        let Moments::Host { mean, square } = moments else {
            return Err(anyhow!("{}'s moments aren't on the CPU", parameter.name));
        };
        ensure!(mean.len() == gradient.len(), "{}'s gradient has another shape", parameter.name);
        let updated = kernels::with_slice_mut(parameter.take(), |values| {
            rule.update(values, gradient, mean, square, clip);
        });
        parameter.set(updated.map_err(|_| anyhow!("{} isn't on the CPU", parameter.name))?);
    }
    Ok(())
}

fn update<const D: usize>(
    parameters: &mut [Parameter<D>],
    gradients: Vec<Option<Tensor<D>>>,
    moments: &mut [Option<Moments<D>>],
    rule: kernels::AdamW,
    clip: Option<&Tensor<1>>,
) {
    for ((parameter, gradient), moments) in parameters.iter_mut().zip(gradients).zip(moments) {
        let Some(gradient) = gradient else { continue };
        let before = match moments.take() {
            Some(Moments::Device { mean, square }) => Some([mean, square]),
            _ => None,
        };
        let (value, [mean, square]) = rule.update_on_device(parameter.take(), gradient, before, clip);
        *moments = Some(Moments::Device { mean, square });
        parameter.set(value);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::network::model::{Builder, Fresh, Initial};

    const SETTINGS: AdamWSettings =
        AdamWSettings { beta1: 0.9, beta2: 0.99, epsilon: 1e-8, weight_decay: 0.1, max_grad_norm: 1.0 };
    const RATE: f64 = 0.05;

    /// A vector `[3]` and a matrix `[2, 3]`, both of ones.
    fn parameters() -> Parameters {
        let mut parameters = Parameters::new(&Device::flex());
        let mut source = Fresh { seed: 0 };
        let mut builder = Builder::new(&mut parameters, &mut source);
        builder.vector("bias".into(), 3, Initial::Ones);
        builder.matrix("weight".into(), [2, 3], Initial::Ones);
        parameters
    }

    /// Below the limit of the norm at the first step, above it from then on.
    fn gradient(step: usize, index: usize) -> f64 {
        (0.05 + 0.3 * step as f64) * (index as f64 - 3.5)
    }

    fn gradients(step: usize) -> Gradients {
        let device = Device::flex();
        let values = |range: std::ops::Range<usize>| -> Vec<f32> { range.map(|i| gradient(step, i) as f32).collect() };
        Gradients {
            vectors: vec![Some(Tensor::from_data(&values(0..3)[..], &device))],
            matrices: vec![Some(Tensor::from_data(TensorData::new(values(3..9), [2, 3]), &device))],
        }
    }

    /// `torch.optim.AdamW` and `clip_grad_norm_`, written down element by element in f64.
    fn reference(steps: usize) -> Vec<f64> {
        let mut values = vec![1.0; 9];
        let (mut mean, mut square) = ([0.0; 9], [0.0; 9]);
        for step in 0..steps {
            let norm = (0..9).map(|i| gradient(step, i).powi(2)).sum::<f64>().sqrt();
            let clip = (1.0 / (norm + 1e-6)).min(1.0);
            for i in 0..9 {
                let g = gradient(step, i) * clip;
                mean[i] = 0.9 * mean[i] + 0.1 * g;
                square[i] = 0.99 * square[i] + 0.01 * g * g;
                let m = mean[i] / (1.0 - 0.9f64.powi(step as i32 + 1));
                let v = square[i] / (1.0 - 0.99f64.powi(step as i32 + 1));
                let decay = if i < 3 { 0.0 } else { 0.1 };
                values[i] = values[i] * (1.0 - RATE * decay) - RATE * m / (v.sqrt() + 1e-8);
            }
        }
        values
    }

    fn values(parameters: &Parameters) -> Vec<f32> {
        let vector = parameters.vectors[0].data().unwrap();
        let matrix = parameters.matrices[0].data().unwrap();
        [vector.as_slice::<f32>().unwrap(), matrix.as_slice::<f32>().unwrap()].concat()
    }

    fn assert_near(found: &[f32], expected: &[f64]) {
        for (found, expected) in found.iter().zip(expected) {
            assert!((f64::from(*found) - expected).abs() < 1e-6, "{found} instead of {expected}");
        }
    }

    #[test]
    fn adamw_agrees_with_pytorch_on_the_host_and_on_devices() {
        let (mut on_host, mut on_device) = (parameters(), parameters());
        let (mut host, mut device) = (AdamW::new(SETTINGS), AdamW::new(SETTINGS));
        for step in 0..5 {
            let norm = host.step(&mut on_host, gradients(step), RATE).unwrap().into_scalar::<f32>();
            let expected = (0..9).map(|i| gradient(step, i).powi(2)).sum::<f64>().sqrt();
            assert!((f64::from(norm) - expected).abs() < 1e-5, "{norm} instead of {expected}");

            device.steps += 1;
            device.vectors.resize(1, None);
            device.matrices.resize(1, None);
            let again = device.step_on_device(&mut on_device, gradients(step), RATE).into_scalar::<f32>();
            assert!((norm - again).abs() < 1e-5);
        }
        assert_near(&values(&on_host), &reference(5));
        assert_near(&values(&on_device), &reference(5));
    }

    #[test]
    fn parameters_without_gradients_stay() {
        let mut parameters = parameters();
        let mut gradients = gradients(0);
        gradients.matrices[0] = None;
        AdamW::new(SETTINGS).step(&mut parameters, gradients, RATE).unwrap();
        assert!(values(&parameters)[..3].iter().all(|&value| value != 1.0));
        assert!(values(&parameters)[3..].iter().all(|&value| value == 1.0));
    }

    #[test]
    fn parameters_are_changed_in_place() {
        let mut parameters = parameters();
        let place = |parameters: &Parameters| {
            kernels::with_slice(&parameters.matrices[0].value, |values| values.as_ptr() as usize)
        };
        let before = place(&parameters);
        AdamW::new(SETTINGS).step(&mut parameters, gradients(0), RATE).unwrap();
        assert_eq!(place(&parameters), before);
    }
}
