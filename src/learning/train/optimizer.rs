//! The optimizer's step: the update rule applied to each parameter that has a gradient, gradients clipped by their global
//! norm, and the rule's state of each parameter.

use std::{collections::BTreeMap, sync::Arc};

use anyhow::{Context, Result, anyhow, ensure};
use burn::tensor::{Device, Tensor, TensorData};

use super::{
    gradients::Gradients,
    optimizers::{Clip, UpdateContext, UpdateRule},
};
use crate::network::{
    kernels,
    model::{
        AnyTensor, Parameter, Parameters,
        tensors::{Reader, TensorEntry},
    },
};

/// Added to the norm before dividing by it, as `clip_grad_norm_` does.
const NORM_EPSILON: f64 = 1e-6;

/// An update rule with its state of all parameters.
pub(super) struct Optimizer {
    rule: Arc<dyn UpdateRule>,
    /// The norm to which gradients are clipped; 0 turns it off.
    max_grad_norm: f64,
    steps: u64,
    /// In the parameters' order; there once a parameter had a gradient.
    states: Vec<Option<ParameterState>>,
}

/// The optimizer's state of one parameter.
#[derive(Clone)]
struct ParameterState {
    /// Steps in which it had a gradient.
    steps: u64,
    /// The rule's, in the order of its slots.
    tensors: Vec<AnyTensor>,
}

impl Optimizer {
    /// Before the first step.
    pub(super) fn new(rule: Arc<dyn UpdateRule>, max_grad_norm: f64) -> Self {
        Self { rule, max_grad_norm, steps: 0, states: Vec::new() }
    }

    /// The same for a replica on another device of the backend.
    ///
    /// # Errors
    /// The devices'.
    pub(super) fn on(&self, device: &Device) -> Result<Self> {
        let on = |kept: &ParameterState| -> Result<ParameterState> {
            let tensors = kept.tensors.iter().map(|tensor| tensor.clone().on(device)).collect::<Result<_>>()?;
            Ok(ParameterState { steps: kept.steps, tensors })
        };
        let states = self.states.iter().map(|kept| kept.as_ref().map(on).transpose()).collect::<Result<_>>()?;
        Ok(Self { rule: Arc::clone(&self.rule), max_grad_norm: self.max_grad_norm, steps: self.steps, states })
    }

    /// Steps so far.
    pub(super) fn steps(&self) -> u64 {
        self.steps
    }

    /// Updates the parameters that have gradients, and returns the norm of all gradients before clipping, `[1]`.
    ///
    /// # Errors
    /// The device's, and the rule's.
    pub(super) fn step(&mut self, parameters: &mut Parameters, gradients: Gradients, lr: f64) -> Result<Tensor<1>> {
        let (norm, clip) = match *parameters.device() == Device::flex() {
            true => self.clip_on_host(parameters.device(), &gradients)?,
            false => self.clip_on_device(parameters.device(), &gradients),
        };
        self.apply(parameters, gradients, lr, &clip)?;
        Ok(norm)
    }

    fn apply(&mut self, parameters: &mut Parameters, gradients: Gradients, lr: f64, clip: &Clip) -> Result<()> {
        self.steps += 1;
        self.states.resize(parameters.len(), None);
        for ((parameter, gradient), kept) in parameters.iter_mut().zip(gradients.0).zip(&mut self.states) {
            let Some(gradient) = gradient else { continue };
            ensure!(gradient.shape() == parameter.shape(), "{}'s gradient has another shape", parameter.name);
            let (before, tensors) = kept.take().map_or((0, None), |kept| (kept.steps, Some(kept.tensors)));
            let value = parameter.take();
            let context = UpdateContext {
                name: &parameter.name,
                role: parameter.role,
                sparse_rows: parameter.sparse_rows,
                lr,
                step: self.steps,
                parameter_step: before + 1,
                clip,
            };
            let (value, tensors) = self.rule.update(&context, value, gradient, tensors)?;
            *kept = Some(ParameterState { steps: before + 1, tensors });
            parameter.set(value);
        }
        Ok(())
    }

    fn clip_on_host(&self, device: &Device, gradients: &Gradients) -> Result<(Tensor<1>, Clip)> {
        let mut squares = Vec::new();
        for gradient in gradients.0.iter().flatten() {
            let sums = gradient.with_slice(kernels::block_squares);
            squares.extend(sums.context("a gradient isn't f32 on the CPU")?);
        }
        let norm = squares.iter().sum::<f64>().sqrt();
        let limit = self.max_grad_norm;
        let clip = if limit > 0.0 { (limit / (norm + NORM_EPSILON)).min(1.0) as f32 } else { 1.0 };
        Ok((Tensor::from_data([norm as f32], device), Clip::Host(clip)))
    }

    fn clip_on_device(&self, device: &Device, gradients: &Gradients) -> (Tensor<1>, Clip) {
        let gradients = || gradients.0.iter().flatten();
        let (vectors, matrices) =
            (gradients().filter_map(AnyTensor::as_vector), gradients().filter_map(AnyTensor::as_matrix));
        let norm = kernels::norm(&device.clone().inner(), vectors, matrices);
        let clip = (self.max_grad_norm > 0.0)
            .then(|| norm.clone().add_scalar(NORM_EPSILON).recip() * self.max_grad_norm)
            .map_or(Clip::Off, |clip| Clip::Device(clip.clamp_max(1.0)));
        (norm, clip)
    }

    /// The rule's state, for writing: each tensor under the slot's name, a dot and the parameter's.
    pub(super) fn entries<'a>(&'a self, parameters: &'a Parameters) -> Vec<TensorEntry<'a>> {
        let mut entries = Vec::new();
        for (parameter, kept) in parameters.iter().zip(&self.states) {
            let Some(kept) = kept else { continue };
            let slots = self.rule.slots(parameter.role, &parameter.shape());
            for (slot, tensor) in slots.into_iter().zip(&kept.tensors) {
                let name = format!("{}.{}", slot.name, parameter.name);
                entries.push(TensorEntry::single(name, slot.shape, || tensor.clone().into_data()));
            }
        }
        entries
    }

    /// How many steps parameters had gradients in, by name, where that isn't the number of all steps.
    pub(super) fn parameter_steps(&self, parameters: &Parameters) -> BTreeMap<String, u64> {
        let steps = |at: usize| self.states.get(at).and_then(Option::as_ref).map_or(0, |kept| kept.steps);
        let learned = parameters.iter().enumerate().filter(|(_, parameter)| parameter.is_trainable());
        let counts = learned.map(|(at, parameter)| (parameter.name.clone(), steps(at)));
        counts.filter(|(_, count)| *count != self.steps).collect()
    }

    /// The same optimizer where a state was written; `parameter_steps` are those that differ from `steps`.
    ///
    /// # Errors
    /// Those of reading.
    pub(super) fn read(
        &self,
        parameters: &Parameters,
        reader: &Reader,
        steps: u64,
        parameter_steps: &BTreeMap<String, u64>,
    ) -> Result<Self> {
        let device = parameters.device();
        let read = |parameter: &Parameter| {
            let steps = *parameter_steps.get(&parameter.name).unwrap_or(&steps);
            self.read_kept(parameter, reader, steps, device)
        };
        let states = parameters.iter().map(read).collect::<Result<_>>()?;
        Ok(Self { rule: Arc::clone(&self.rule), max_grad_norm: self.max_grad_norm, steps, states })
    }

    fn read_kept(
        &self,
        parameter: &Parameter,
        reader: &Reader,
        steps: u64,
        device: &Device,
    ) -> Result<Option<ParameterState>> {
        if steps == 0 || !parameter.is_trainable() {
            return Ok(None);
        }
        let mut tensors = Vec::new();
        for slot in self.rule.slots(parameter.role, &parameter.shape()) {
            let name = format!("{}.{}", slot.name, parameter.name);
            if reader.shape(&name) != Some(&slot.shape[..]) {
                // It never had a gradient.
                return Ok(None);
            }
            let data = TensorData::new(reader.read(&name)?, slot.shape);
            let tensor = AnyTensor::from_data(data, device);
            tensors.push(tensor.ok_or_else(|| anyhow!("{name} is neither a vector nor a matrix"))?);
        }
        Ok(Some(ParameterState { steps, tensors }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        learning::train::optimizers::{AdamW, AdamWSettings},
        network::model::{Builder, Initial, Initializer},
    };

    fn adamw() -> Optimizer {
        let settings = AdamWSettings { beta1: 0.9, beta2: 0.99, epsilon: 1e-8, weight_decay: 0.1 };
        Optimizer::new(Arc::new(AdamW::try_from(settings).unwrap()), 1.0)
    }

    const RATE: f64 = 0.05;

    /// A vector `[3]` and a matrix `[2, 3]`, both of ones.
    fn parameters() -> Parameters {
        let mut parameters = Parameters::new(&Device::flex());
        let mut source = Initializer { seed: 0 };
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
        let vector = Tensor::<1>::from_data(&values(0..3)[..], &device);
        let matrix = Tensor::<2>::from_data(TensorData::new(values(3..9), [2, 3]), &device);
        Gradients(vec![Some(vector.into()), Some(matrix.into())])
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
        parameters.iter().flat_map(|parameter| parameter.data().unwrap().try_to_vec::<f32>().unwrap()).collect()
    }

    fn assert_near(found: &[f32], expected: &[f64]) {
        for (found, expected) in found.iter().zip(expected) {
            assert!((f64::from(*found) - expected).abs() < 1e-6, "{found} instead of {expected}");
        }
    }

    #[test]
    fn adamw_agrees_with_pytorch_on_the_host_and_on_devices() {
        let (mut on_host, mut on_device) = (parameters(), parameters());
        let (mut host, mut device) = (adamw(), adamw());
        for step in 0..5 {
            let norm = host.step(&mut on_host, gradients(step), RATE).unwrap().into_scalar::<f32>();
            let expected = (0..9).map(|i| gradient(step, i).powi(2)).sum::<f64>().sqrt();
            assert!((f64::from(norm) - expected).abs() < 1e-5, "{norm} instead of {expected}");

            let (again, clip) = device.clip_on_device(on_device.device(), &gradients(step));
            device.apply(&mut on_device, gradients(step), RATE, &clip).unwrap();
            assert!((norm - again.into_scalar::<f32>()).abs() < 1e-5);
        }
        assert_near(&values(&on_host), &reference(5));
        assert_near(&values(&on_device), &reference(5));
    }

    #[test]
    fn parameters_without_gradients_stay() {
        let mut parameters = parameters();
        let mut gradients = gradients(0);
        gradients.0[1] = None;
        adamw().step(&mut parameters, gradients, RATE).unwrap();
        assert!(values(&parameters)[..3].iter().all(|&value| value != 1.0));
        assert!(values(&parameters)[3..].iter().all(|&value| value == 1.0));
    }

    /// A vector with a gradient in all steps but the third, and a matrix with one in the second, the fifth and the sixth,
    /// where it's of zeros. PyTorch 2's values after each step:
    ///
    /// ```python
    /// import torch
    /// torch.set_default_dtype(torch.float64)
    /// vector, matrix = torch.ones(3, requires_grad=True), torch.ones(2, 3, requires_grad=True)
    /// groups = [{"params": [vector], "weight_decay": 0.0}, {"params": [matrix], "weight_decay": 0.1}]
    /// adam = torch.optim.AdamW(groups, lr=0.05, betas=(0.9, 0.99), eps=1e-8)
    /// for step in range(7):
    ///     adam.zero_grad(set_to_none=True)
    ///     gradient = torch.tensor([(0.05 + 0.3 * step) * (i - 3.5) for i in range(9)])
    ///     if step != 2: vector.grad = gradient[:3]
    ///     if step in (1, 4, 5): matrix.grad = gradient[3:].reshape(2, 3) * (step != 5)
    ///     torch.nn.utils.clip_grad_norm_([vector, matrix], 1.0)
    ///     adam.step()
    ///     print([*vector.tolist(), *matrix.flatten().tolist()])
    /// ```
    #[test]
    fn steps_count_for_each_parameter_as_in_pytorch() {
        const EXPECTED: [[f64; 9]; 7] = [
            [1.049999997, 1.049999996, 1.049999993, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0],
            [
                1.096825291,
                1.096825289,
                1.096825285,
                1.044999992,
                0.945000008,
                0.945000003,
                0.945000002,
                0.945000001,
                0.945000001,
            ],
            [
                1.096825291,
                1.096825289,
                1.096825285,
                1.044999992,
                0.945000008,
                0.945000003,
                0.945000002,
                0.945000001,
                0.945000001,
            ],
            [
                1.142936829,
                1.142936827,
                1.142936822,
                1.044999992,
                0.945000008,
                0.945000003,
                0.945000002,
                0.945000001,
                0.945000001,
            ],
            [
                1.189660108,
                1.189660106,
                1.1896601,
                1.089774985,
                0.890275015,
                0.890275005,
                0.890275003,
                0.890275002,
                0.890275001,
            ],
            [
                1.237511708,
                1.237511706,
                1.237511699,
                1.123064194,
                0.847085556,
                0.84708554,
                0.847085537,
                0.847085536,
                0.847085535,
            ],
            [
                1.28624471,
                1.286244707,
                1.2862447,
                1.123064194,
                0.847085556,
                0.84708554,
                0.847085537,
                0.847085536,
                0.847085535,
            ],
        ];
        let (mut on_host, mut on_device) = (parameters(), parameters());
        let (mut host, mut device) = (adamw(), adamw());
        for (step, expected) in EXPECTED.iter().enumerate() {
            let present = || {
                let mut gradients = gradients(step);
                gradients.0[0] = gradients.0[0].take().filter(|_| step != 2);
                let matrix = gradients.0[1].take().filter(|_| [1, 4, 5].contains(&step));
                gradients.0[1] = matrix.map(|matrix| matrix * if step == 5 { 0.0 } else { 1.0 });
                gradients
            };
            host.step(&mut on_host, present(), RATE).unwrap();
            let (_, clip) = device.clip_on_device(on_device.device(), &present());
            device.apply(&mut on_device, present(), RATE, &clip).unwrap();
            assert_near(&values(&on_host), expected);
            assert_near(&values(&on_device), expected);
        }
        let counts = host.parameter_steps(&on_host);
        assert_eq!(counts, BTreeMap::from([("bias".to_owned(), 6), ("weight".to_owned(), 3)]));
    }

    #[test]
    fn parameters_are_changed_in_place() {
        let mut parameters = parameters();
        let place = |parameters: &Parameters| -> Vec<Option<usize>> {
            parameters.iter().map(|parameter| parameter.value.with_slice(|values| values.as_ptr() as usize)).collect()
        };
        let before = place(&parameters);
        adamw().step(&mut parameters, gradients(0), RATE).unwrap();
        assert_eq!(place(&parameters), before);
    }
}
