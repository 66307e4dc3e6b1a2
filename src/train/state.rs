//! States that training can go on from: weights, moments, counters and the curve so far.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use burn::tensor::{Device, Tensor, TensorData};
use fs_err as fs;
use serde::{Deserialize, Serialize};

use super::{
    curve::Curve,
    evaluation::{Metrics, Record},
    optimizer::Moments,
    trainer::{Best, Trainer},
};
use crate::model::{
    Parameter, Parameters,
    tensors::{self, Entry, Reader},
};

const TENSORS: &str = "state.safetensors";
const NUMBERS: &str = "state.json";

/// What isn't tensors.
#[derive(Deserialize, Serialize)]
struct Numbers {
    step: usize,
    optimizer_steps: u64,
    measured: Option<(usize, Metrics)>,
    best_is_kept: bool,
    kept: Record,
    stopping: Record,
    curve: Curve,
}

impl Trainer {
    /// Stores all that it takes to go on, in place of what `directory` held; a crash leaves one or the other.
    ///
    /// # Errors
    /// The file system's and the device's.
    pub fn save_state(&self, directory: &Path) -> Result<()> {
        let aside = aside(directory, "new");
        if aside.exists() {
            fs::remove_dir_all(&aside)?;
        }
        fs::create_dir_all(&aside)?;
        let parameters = self.network.parameters();
        let mut entries = renamed(parameters.entries(), "value");
        add_moments(&mut entries, &parameters.vectors, &self.optimizer.vectors);
        add_moments(&mut entries, &parameters.matrices, &self.optimizer.matrices);
        let best = self.best.as_ref().and_then(|best| best.parameters.as_ref());
        if let Some(best) = best {
            entries.extend(renamed(best.entries(), "best"));
        }
        tensors::write(&aside.join(TENSORS), entries)?;
        let numbers = Numbers {
            step: self.step,
            optimizer_steps: self.optimizer.steps,
            measured: self.best.as_ref().map(|best| (best.step, best.metrics.clone())),
            best_is_kept: best.is_some(),
            kept: self.kept.clone(),
            stopping: self.stopping.clone(),
            curve: self.curve.clone(),
        };
        fs::write(aside.join(NUMBERS), serde_json::to_vec(&numbers)?)?;

        let old = self::aside(directory, "old");
        if directory.exists() {
            fs::rename(directory, &old)?;
        }
        fs::rename(&aside, directory)?;
        if old.exists() {
            fs::remove_dir_all(&old)?;
        }
        Ok(())
    }

    /// Goes back to a stored state; false where there is none.
    ///
    /// # Errors
    /// States of another network, and the file system's.
    pub fn load_state(&mut self, directory: &Path) -> Result<bool> {
        let old = aside(directory, "old");
        if !directory.exists() && old.exists() {
            fs::rename(&old, directory)?;
        }
        if !directory.exists() {
            return Ok(false);
        }
        let what = || format!("can't go on from {}", directory.display());
        let numbers = fs::read(directory.join(NUMBERS))?;
        let numbers: Numbers = serde_json::from_slice(&numbers).with_context(what)?;
        let reader = Reader::open(&directory.join(TENSORS))?;
        let device = self.network.parameters().device().clone();
        let mut best = None;
        if numbers.best_is_kept {
            let mut parameters = self.network.parameters().clone();
            read_values(&mut parameters, &reader, "best").with_context(what)?;
            best = Some(parameters);
        }
        let parameters = self.network.parameters_mut();
        read_values(parameters, &reader, "value").with_context(what)?;
        self.optimizer.vectors = read_moments(&parameters.vectors, &reader, &device)?;
        self.optimizer.matrices = read_moments(&parameters.matrices, &reader, &device)?;
        self.optimizer.steps = numbers.optimizer_steps;
        self.best = numbers.measured.map(|(step, metrics)| Best { step, metrics, parameters: best });
        self.step = numbers.step;
        self.stored = Some((numbers.step, directory.to_owned()));
        self.curve = numbers.curve;
        self.kept = numbers.kept;
        self.stopping = numbers.stopping;
        Ok(true)
    }
}

/// A neighbour of the directory.
fn aside(directory: &Path, suffix: &str) -> PathBuf {
    let mut name = directory.file_name().unwrap_or_default().to_owned();
    name.push(".");
    name.push(suffix);
    directory.with_file_name(name)
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
