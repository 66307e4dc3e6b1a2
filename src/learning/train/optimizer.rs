//! The optimizer's step: the update rule applied to each parameter that has a gradient, gradients clipped by their global
//! norm, and the rule's state of each parameter.

use std::{collections::BTreeMap, sync::Arc};

use anyhow::{Context, Result, anyhow, ensure};
use burn::tensor::{Device, Tensor, TensorData};

use super::{
    gradients::{Gradient, Gradients},
    optimizers::{Clip, UpdateContext, UpdateRule},
    rows::Rows,
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
            let Some(Gradient { value: gradient, rows }) = gradient else { continue };
            let mut shape = parameter.shape();
            if let Some(rows) = &rows {
                shape[0] = rows.len();
            }
            ensure!(gradient.shape() == shape, "{}'s gradient has another shape", parameter.name);
            let (before, tensors) = kept.take().map_or((0, None), |kept| (kept.steps, Some(kept.tensors)));
            let value = parameter.take();
            let context = UpdateContext {
                name: &parameter.name,
                role: parameter.role,
                sparse_rows: parameter.sparse_rows,
                only_rows: rows.is_some(),
                lr,
                step: self.steps,
                parameter_step: before + 1,
                clip,
            };
            let (value, tensors) = match rows.map(Rows::new) {
                Some(rows) => rows.update(&*self.rule, &context, value, gradient, tensors)?,
                None => self.rule.update(&context, value, gradient, tensors)?,
            };
            *kept = Some(ParameterState { steps: before + 1, tensors });
            parameter.set(value);
        }
        Ok(())
    }

    fn clip_on_host(&self, device: &Device, gradients: &Gradients) -> Result<(Tensor<1>, Clip)> {
        let mut squares = Vec::new();
        for gradient in gradients.values() {
            let sums = gradient.with_slice(kernels::block_squares);
            squares.extend(sums.context("a gradient isn't f32 on the CPU")?);
        }
        let norm = squares.iter().sum::<f64>().sqrt();
        let limit = self.max_grad_norm;
        let clip = if limit > 0.0 { (limit / (norm + NORM_EPSILON)).min(1.0) as f32 } else { 1.0 };
        Ok((Tensor::from_data([norm as f32], device), Clip::Host(clip)))
    }

    fn clip_on_device(&self, device: &Device, gradients: &Gradients) -> (Tensor<1>, Clip) {
        let (vectors, matrices) =
            (gradients.values().filter_map(AnyTensor::as_vector), gradients.values().filter_map(AnyTensor::as_matrix));
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
mod tests;
