//! States that training can go on from: weights, moments, counters and the curve so far.

use anyhow::{Result, ensure};
use burn::tensor::{Device, Tensor, TensorData};
use serde::{Deserialize, Serialize};

use super::{
    curve::Curve,
    evaluation::{Metrics, Record},
    loss_scale::LossScale,
    optimizer::Moments,
    trainer::{Best, Trainer},
};
use crate::{
    engine::{
        plan::{Length, Reached},
        store::{Pace, State},
    },
    network::model::{
        Parameter, Parameters,
        tensors::{self, Entry, Reader},
    },
};

/// What isn't tensors.
#[derive(Deserialize, Serialize)]
struct Numbers {
    reached: Reached,
    optimizer_steps: u64,
    loss_scale: Option<LossScale>,
    measured: Option<(usize, Metrics)>,
    best_is_kept: bool,
    kept: Record,
    stopping: Record,
    curve: Curve,
    #[serde(default)]
    pace: Pace,
}

impl Trainer {
    /// Keeps all that it takes to go on, in place of what was kept before.
    ///
    /// # Errors
    /// The file system's and the device's; what was kept before is still there then.
    pub fn save_state(&self, state: &State) -> Result<()> {
        self.keep_state(state, None)
    }

    fn keep_state(&self, state: &State, length: Option<Length>) -> Result<()> {
        let parameters = self.network.parameters();
        let mut entries = renamed(parameters.entries(), "value");
        add_moments(&mut entries, &parameters.vectors, &self.optimizer.vectors);
        add_moments(&mut entries, &parameters.matrices, &self.optimizer.matrices);
        let best = self.best.as_ref().and_then(|best| best.parameters.as_ref());
        if let Some(best) = best {
            entries.extend(renamed(best.entries(), "best"));
        }
        let name = tensors_name(self.step);
        let place = state.place(&name)?;
        let written = tensors::write(&place, entries).and_then(|()| state.seal(&name));
        // On a disk that is full, half a file would only be in the way.
        let file = written.inspect_err(|_| drop(std::fs::remove_file(&place)))?;
        let numbers = Numbers {
            reached: Reached { step: self.step, length },
            optimizer_steps: self.optimizer.steps,
            loss_scale: self.passes.scale,
            measured: self.best.as_ref().map(|best| (best.step, best.metrics.clone())),
            best_is_kept: best.is_some(),
            kept: self.kept.clone(),
            stopping: self.stopping.clone(),
            curve: self.curve.clone(),
            pace: self.pace.clone(),
        };
        state.keep(vec![file], &numbers)
    }

    /// Goes back to a kept state; false where there is none, or one of more steps than this training has.
    ///
    /// # Errors
    /// Why the state can't be gone on from. The training stands where it stood then.
    pub fn load_state(&mut self, state: &State) -> Result<bool> {
        let Some(numbers) = state.read::<Numbers>()? else { return Ok(false) };
        let step = numbers.reached.step;
        if step > self.settings.schedule.steps {
            return Ok(false);
        }
        let reader = Reader::open(&state.dir().join(tensors_name(step)))?;
        let device = self.network.parameters().device().clone();
        let mut best = None;
        if numbers.best_is_kept {
            let mut parameters = self.network.parameters().clone();
            read_values(&mut parameters, &reader, "best")?;
            best = Some(parameters);
        }
        let mut parameters = self.network.parameters().clone();
        read_values(&mut parameters, &reader, "value")?;
        let vectors = read_moments(&parameters.vectors, &reader, &device)?;
        let matrices = read_moments(&parameters.matrices, &reader, &device)?;
        // From here on nothing can fail.
        *self.network.parameters_mut() = parameters;
        self.optimizer.vectors = vectors;
        self.optimizer.matrices = matrices;
        self.optimizer.steps = numbers.optimizer_steps;
        self.passes.scale = numbers.loss_scale;
        self.best = numbers.measured.map(|(step, metrics)| Best { step, metrics, parameters: best });
        self.step = step;
        self.stored = Some((step, state.dir().to_owned()));
        self.curve = numbers.curve;
        self.pace = numbers.pace;
        self.kept = numbers.kept;
        self.stopping = numbers.stopping;
        Ok(true)
    }

    /// Leaves the state after the last step where longer trainings look for it, unless one of more steps is there.
    ///
    /// # Errors
    /// Those of [`Self::save_state`].
    pub(super) fn leave_state(&self, state: &State, length: Length) -> Result<()> {
        // One that can't be read is of no use to anybody.
        match state.peek::<Numbers>() {
            Ok(Some(numbers)) if numbers.reached.step >= self.step => Ok(()),
            _ => self.keep_state(state, Some(length)),
        }
    }
}

fn tensors_name(step: usize) -> String {
    format!("step-{step}.safetensors")
}

fn renamed<'a>(mut entries: Vec<Entry<'a>>, what: &str) -> Vec<Entry<'a>> {
    entries.iter_mut().for_each(|entry| entry.name = format!("{what}.{}", entry.name));
    entries
}

fn add_moments<'a, const D: usize>(
    entries: &mut Vec<Entry<'a>>,
    parameters: &'a [Parameter<D>],
    moments: &'a [Option<Moments<D>>],
) {
    for (parameter, moments) in parameters.iter().zip(moments) {
        let Some(moments) = moments else { continue };
        for (what, values) in ["mean", "square"].into_iter().zip(moments.data()) {
            let shape = parameter.value.dims();
            let values = move || values().map(|values| TensorData::new(values, shape));
            entries.push(Entry::single(format!("{what}.{}", parameter.name), shape.to_vec(), values));
        }
    }
}

impl<const D: usize> Moments<D> {
    /// Mean and square, each fetched when it's called.
    fn data(&self) -> [Box<dyn FnOnce() -> Result<Vec<f32>> + '_>; 2] {
        let fetch = |tensor: &Tensor<D>| Ok(tensor.clone().try_into_vec_as()?);
        match self {
            Self::Host { mean, square } => [Box::new(|| Ok(mean.clone())), Box::new(|| Ok(square.clone()))],
            Self::Device { mean, square } => [Box::new(move || fetch(mean)), Box::new(move || fetch(square))],
        }
    }
}

fn read_values(parameters: &mut Parameters, reader: &Reader, what: &str) -> Result<()> {
    let device = parameters.device().clone();
    for parameter in parameters.vectors.iter_mut().filter(|parameter| parameter.is_learned()) {
        read_value(parameter, reader, what, &device)?;
    }
    for parameter in parameters.matrices.iter_mut().filter(|parameter| parameter.is_learned()) {
        read_value(parameter, reader, what, &device)?;
    }
    Ok(())
}

fn read_value<const D: usize>(
    parameter: &mut Parameter<D>,
    reader: &Reader,
    what: &str,
    device: &Device,
) -> Result<()> {
    let name = format!("{what}.{}", parameter.name);
    let shape = parameter.value.dims();
    ensure!(reader.shape(&name) == Some(&shape[..]), "{name} is missing or has another shape");
    parameter.set(Tensor::from_data(TensorData::new(reader.read(&name)?, shape), device));
    Ok(())
}

fn read_moments<const D: usize>(
    parameters: &[Parameter<D>],
    reader: &Reader,
    device: &Device,
) -> Result<Vec<Option<Moments<D>>>> {
    let read = |parameter: &Parameter<D>| {
        let shape = parameter.value.dims();
        let names = ["mean", "square"].map(|what| format!("{what}.{}", parameter.name));
        if names.iter().any(|name| reader.shape(name) != Some(&shape[..])) {
            // It never had a gradient.
            return Ok(None);
        }
        let (mean, square) = (reader.read(&names[0])?, reader.read(&names[1])?);
        let tensor = |values: Vec<f32>| Tensor::from_data(TensorData::new(values, shape), device);
        Ok(Some(if *device == Device::flex() {
            Moments::Host { mean, square }
        } else {
            Moments::Device { mean: tensor(mean), square: tensor(square) }
        }))
    };
    parameters.iter().map(read).collect()
}
