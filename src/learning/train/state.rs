//! States that training can resume from: weights, the optimizer's state, counters and the curve so far.

use std::collections::BTreeMap;

use anyhow::{Context, Result, ensure};
use burn::tensor::TensorData;
use serde::{Deserialize, Serialize};

use super::{
    curve::Curve,
    evaluation::{MetricTracker, Metrics},
    loss_scale::LossScale,
    optimizers,
    trainer::{Best, Trainer},
};
use crate::{
    engine::{
        plan::{Length, Reached},
        store::{State, Throughput},
    },
    network::model::{
        AnyTensor, Parameter, Parameters,
        tensors::{self, Reader, TensorEntry},
    },
};

/// The version of the code that made a state. 2 corrects the bias of AdamW's means by the steps of each parameter, 1 did by
/// all steps.
const CODE: u32 = 2;

/// What a state holds beside tensors. The names of its fields are part of the file.
#[derive(Deserialize, Serialize)]
struct StateHeader {
    #[serde(default = "first")]
    code: u32,
    reached: Reached,
    optimizer_steps: u64,
    /// Those of parameters that had no gradient in some of them.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    parameter_steps: BTreeMap<String, u64>,
    loss_scale: Option<LossScale>,
    measured: Option<(usize, Metrics)>,
    best_is_kept: bool,
    kept: MetricTracker,
    stopping: MetricTracker,
    curve: Curve,
    #[serde(default, rename = "pace")]
    throughput: Throughput,
}

fn first() -> u32 {
    1
}

impl Trainer {
    /// Saves all that training needs to resume, in place of the state before.
    ///
    /// # Errors
    /// The file system's and the device's; the state before is still there then.
    pub fn save_state(&self, state: &State) -> Result<()> {
        self.write_state(state, None)
    }

    /// How many bytes a state takes; with the best weights so far where they're kept.
    pub fn state_bytes(&self, keeps_best: bool) -> u64 {
        let parameters = self.network.parameters().iter().filter(|parameter| parameter.is_trainable());
        let optimizer = |parameter: &Parameter| {
            optimizers::state_bytes(&*self.settings.optimizer, parameter.role, &parameter.shape())
        };
        let weights = 4 * self.network.parameters().trainable() as u64;
        weights * (1 + u64::from(keeps_best) + u64::from(self.average.is_some()))
            + parameters.map(optimizer).sum::<u64>()
    }

    fn write_state(&self, state: &State, length: Option<Length>) -> Result<()> {
        let parameters = self.network.parameters();
        let mut entries = renamed(parameters.entries(), "value");
        entries.extend(self.optimizer.entries(parameters));
        entries.extend(self.average.iter().flat_map(|average| average.entries(parameters)));
        let best = self.best.as_ref().and_then(|best| best.parameters.as_ref());
        if let Some(best) = best {
            entries.extend(renamed(best.entries(), "best"));
        }
        let name = tensors_name(self.step);
        let place = state.place(&name)?;
        let written = tensors::write(&place, entries).and_then(|()| state.seal(&name));
        // On a disk that is full, half a file would only be in the way.
        let file = written.inspect_err(|_| drop(std::fs::remove_file(&place)))?;
        let header = StateHeader {
            code: CODE,
            reached: Reached { step: self.step, length },
            optimizer_steps: self.optimizer.steps(),
            parameter_steps: self.optimizer.parameter_steps(parameters),
            loss_scale: self.micro_batching.scale,
            measured: self.best.as_ref().map(|best| (best.step, best.metrics.clone())),
            best_is_kept: best.is_some(),
            kept: self.best_metric.clone(),
            stopping: self.stopping_metric.clone(),
            curve: self.curve.clone(),
            throughput: self.throughput.clone(),
        };
        state.keep(vec![file], &header)
    }

    /// Resumes from a saved state; false where there is none, or one of more steps than this training has.
    ///
    /// # Errors
    /// A state that can't be resumed from. The training is unchanged then.
    pub fn load_state(&mut self, state: &State) -> Result<bool> {
        let Some(header) = state.read::<StateHeader>()? else { return Ok(false) };
        let step = header.reached.step;
        if step > self.settings.schedule.steps {
            return Ok(false);
        }
        let reader = Reader::open(&state.dir().join(tensors_name(step)))?;
        let mut best = None;
        if header.best_is_kept {
            let mut parameters = self.network.parameters().clone();
            read_values(&mut parameters, &reader, "best")?;
            best = Some(parameters);
        }
        let mut parameters = self.network.parameters().clone();
        read_values(&mut parameters, &reader, "value")?;
        let (steps, parameter_steps) = (header.optimizer_steps, &header.parameter_steps);
        let optimizer = self.optimizer.read(&parameters, &reader, steps, parameter_steps)?;
        let average = self.average.as_ref().map(|average| average.read(&parameters, &reader)).transpose()?;
        // Where all parameters had gradients in all steps, both versions do the same.
        self.remark = (header.code < CODE && !parameter_steps.is_empty()).then(|| {
            "the state is an earlier version's, which corrected the means of parameters that had no gradient in some \
             steps as if they had; from here on each goes by its own steps"
                .to_owned()
        });
        // From here on nothing can fail.
        *self.network.parameters_mut() = parameters;
        self.optimizer = optimizer;
        self.average = average;
        self.micro_batching.scale = header.loss_scale;
        self.best = header.measured.map(|(step, metrics)| Best { step, metrics, parameters: best });
        self.step = step;
        self.last_checkpoint = Some((step, state.dir().to_owned()));
        self.curve = header.curve;
        self.throughput = header.throughput;
        self.best_metric = header.kept;
        self.stopping_metric = header.stopping;
        Ok(true)
    }

    /// Saves the state after the last step for longer trainings to resume from, unless one of more steps is there.
    ///
    /// # Errors
    /// Those of [`Self::save_state`].
    pub(super) fn save_final_state(&self, state: &State, length: Length) -> Result<()> {
        // A state that can't be read is replaced.
        match state.peek::<StateHeader>() {
            Ok(Some(header)) if header.reached.step >= self.step => Ok(()),
            _ => self.write_state(state, Some(length)),
        }
    }
}

fn tensors_name(step: usize) -> String {
    format!("step-{step}.safetensors")
}

fn renamed<'a>(mut entries: Vec<TensorEntry<'a>>, what: &str) -> Vec<TensorEntry<'a>> {
    entries.iter_mut().for_each(|entry| entry.name = format!("{what}.{}", entry.name));
    entries
}

fn read_values(parameters: &mut Parameters, reader: &Reader, what: &str) -> Result<()> {
    let device = parameters.device().clone();
    for parameter in parameters.iter_mut().filter(|parameter| parameter.is_trainable()) {
        let (name, shape) = (format!("{what}.{}", parameter.name), parameter.shape());
        ensure!(reader.shape(&name) == Some(&shape[..]), "{name} is missing or has another shape");
        let value = AnyTensor::from_data(TensorData::new(reader.read(&name)?, shape), &device);
        parameter.set(value.with_context(|| format!("{name} is neither a vector nor a matrix"))?);
    }
    Ok(())
}
