//! Adapters as PEFT stores them: `adapter_config.json` and `adapter_model.safetensors`, or formerly `adapter_model.bin`.
//!
//! The tensors are named `base_model.model.MODULE.lora_A.weight` and `….lora_B.weight`, by the module's name in the
//! model's own checkpoint, and heads `base_model.model.NAME`. A prefix is `prompt_embeddings`, or has ChatGLM's name, and
//! heads beside it are `base_model.NAME`.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::{Path, PathBuf},
};

use anyhow::{Context, Result, bail, ensure};
use burn::tensor::TensorData;
use fs_err as fs;
use serde_json::Value;

use super::{config::AdapterConfig, prefix, targets};
use crate::{
    network::{
        checkpoint::{self, ADAPTER as CONFIG, ADAPTER_FOLDER, BASE},
        model::{
            config::PREFIX_LENGTH,
            initial::{Initial, ValueSource},
            tensors::Reader,
        },
    },
    spec::Adapter,
    support::Hinted,
};

/// What PEFT puts before the names of the model's modules.
pub(super) const PREFIX: &str = "base_model.model.";
/// The same where no module is wrapped, as beside a prefix.
pub(super) const UNWRAPPED: &str = "base_model.";
/// A prefix's name.
pub(super) const PROMPT: &str = "prompt_embeddings";

/// A stored adapter.
pub(crate) struct Peft {
    directory: PathBuf,
    /// The file with its tensors.
    file: String,
    /// Whether that has the weights of the model, too.
    is_within: bool,
    config: AdapterConfig,
    settings: Adapter,
    reader: Reader,
}

/// The names of A and B of a module.
pub(super) fn keys(module: &str) -> [String; 2] {
    ["lora_A", "lora_B"].map(|part| format!("{PREFIX}{module}.{part}.weight"))
}

impl Peft {
    /// What ChatGLM calls the table of a prefix among its weights.
    pub(crate) const TABLE: &'static str = prefix::NAME;

    /// The adapter in a directory or in its folder `adapter`, where there is one.
    ///
    /// # Errors
    /// Files that can't be read, and settings that aren't known.
    pub(crate) fn open(directory: &Path) -> Result<Option<Self>> {
        let places = [directory.to_owned(), directory.join(ADAPTER_FOLDER)];
        let Some(directory) = places.into_iter().find(|place| place.join(CONFIG).is_file()) else { return Ok(None) };
        let path = directory.join(CONFIG);
        let read = || AdapterConfig::read(&fs::read(&path)?);
        let config = read().with_context(|| format!("can't use the adapter of {}", path.display()))?;
        let file = checkpoint::adapter_weights(&directory).to_owned();
        let reader = Reader::open(&directory.join(&file))?;
        let mut settings = config.adapter.clone();
        if let Adapter::Lora(lora) = &mut settings
            && lora.targets.is_empty()
        {
            // Where a pattern or the numbers of layers decide, the tensors say what was meant.
            let changed = reader.names().filter_map(|name| name.strip_suffix(".lora_A.weight"));
            lora.targets = changed.map(|module| module.strip_prefix(PREFIX).unwrap_or(module).to_owned()).collect();
        }
        Ok(Some(Self { directory, file, is_within: false, config, settings, reader }))
    }

    /// The prefix of a ChatGLM that was stored with it, as `transformer.prefix_encoder` among the weights; there is one where
    /// the `config` of the model tells its length.
    ///
    /// # Errors
    /// Files that can't be read, and a prefix that isn't there.
    pub(crate) fn within(directory: &Path, config: &Value) -> Result<Option<Self>> {
        let Some(tokens) = config.get(PREFIX_LENGTH).and_then(Value::as_u64) else { return Ok(None) };
        for file in checkpoint::weights(directory)?.into_keys() {
            let reader = Reader::open(&directory.join(&file))?;
            if reader.info(prefix::NAME).is_some() {
                let config = AdapterConfig::of_prefix(tokens as usize);
                let settings = config.adapter.clone();
                let directory = directory.to_owned();
                return Ok(Some(Self { directory, file, is_within: true, config, settings, reader }));
            }
        }
        bail!("config.json says {PREFIX_LENGTH} {tokens}, but there is no {}", prefix::NAME);
    }

    /// Whether it lies among the weights of its model.
    pub(crate) fn is_within(&self) -> bool {
        self.is_within
    }

    /// Whether a tensor among the weights of a model belongs to a prefix that lies there.
    pub(crate) fn owns(&self, name: &str) -> bool {
        self.is_within() && name.starts_with(prefix::MODULE)
    }

    /// As a recipe would have it.
    pub(crate) fn settings(&self) -> &Adapter {
        &self.settings
    }

    /// What else its config says.
    pub(super) fn config(&self) -> &AdapterConfig {
        &self.config
    }

    /// Copies its files to where they are found beside the model in a directory.
    ///
    /// # Errors
    /// The file system's.
    pub(crate) fn copy(&self, to: &Path) -> Result<()> {
        let to = to.join(ADAPTER_FOLDER);
        fs::create_dir_all(&to)?;
        fs::copy(self.directory.join(&self.file), to.join(&self.file))?;
        let mut config: Value = serde_json::from_slice(&fs::read(self.directory.join(CONFIG))?)?;
        config[BASE] = "..".into();
        Ok(fs::write(to.join(CONFIG), format!("{config:#}\n"))?)
    }

    /// Tensors that stand for some of the model's own, by their names there: heads that were trained with it.
    pub(crate) fn whole(&self) -> BTreeMap<&str, &str> {
        let names = self.reader.names().filter(|name| !is_factor(name));
        let outer = |name| match self.settings {
            Adapter::PTuning(_) => str::strip_prefix(name, PREFIX).or_else(|| str::strip_prefix(name, UNWRAPPED)),
            Adapter::Lora(_) => str::strip_prefix(name, PREFIX),
        };
        names.filter_map(|name| Some((outer(name)?, name))).collect()
    }

    /// The tensors themselves.
    pub(crate) fn reader(&self) -> &Reader {
        &self.reader
    }

    /// Whether it changes the linear layer `module`.
    pub(super) fn changes(&self, module: &str) -> bool {
        self.key(&keys(module)[0]).is_some()
    }

    /// Whether LoRA changes a checkpoint's tensor.
    pub(crate) fn gains(&self, name: &str) -> bool {
        name.strip_suffix(".weight").is_some_and(|module| self.changes(module))
    }

    /// What a linear layer's `NAME.weight` gains in a checkpoint, of this shape, where it lies
    /// `transposed` or not; `None` where it stays.
    ///
    /// # Errors
    /// Those of reading, and factors that don't fit one another or the weight.
    pub(crate) fn gain(&self, name: &str, shape: &[usize], transposed: bool) -> Result<Option<Vec<f32>>> {
        let (Adapter::Lora(lora), Some(module)) = (&self.settings, name.strip_suffix(".weight")) else {
            return Ok(None);
        };
        let [Some(a), Some(b)] = keys(module).map(|name| self.key(&name)) else { return Ok(None) };
        let (&[r, width], &[rows, columns]) = (self.shape(&a)?, self.shape(&b)?) else {
            bail!("{a} or {b} is no matrix");
        };
        ensure!(r == columns, "{a} has {r} rows, and {b} {columns} columns");
        let whole = if transposed { [width, rows] } else { [rows, width] };
        ensure!(shape == whole, "the adapter's change of {name} has the shape {whole:?} instead of {shape:?}");
        let (a, b) = (self.reader.read(&a)?, self.reader.read(&b)?);
        let scale = (lora.alpha / lora.r as f64) as f32;
        let mut gain = vec![0.0; rows * width];
        for (row, gain) in gain.chunks_exact_mut(width.max(1)).enumerate() {
            for (factor, a) in b[row * r..][..r].iter().zip(a.chunks_exact(width.max(1))) {
                gain.iter_mut().zip(a).for_each(|(gain, a)| *gain += factor * a);
            }
            gain.iter_mut().for_each(|gain| *gain *= scale);
        }
        if transposed {
            let column = |column: usize| (0..rows).map(move |row| row * width + column);
            gain = (0..width).flat_map(column).map(|at| gain[at]).collect();
        }
        Ok(Some(gain))
    }

    fn shape(&self, name: &str) -> Result<&[usize]> {
        self.reader.shape(name).with_context(|| format!("{} has no {name}", self.directory.join(&self.file).display()))
    }

    /// The name in this file of a tensor: classes differ in what stands before the names of their modules.
    fn key(&self, name: &str) -> Option<String> {
        if self.reader.shape(name).is_some() {
            return Some(name.to_owned());
        }
        let name = name.strip_prefix(PREFIX).unwrap_or(name);
        let alike = |key: &&str| same_tensor(key.strip_prefix(PREFIX).unwrap_or(key), name);
        self.reader.names().find(alike).map(str::to_owned)
    }

    /// Refuses a LoRA of other layers than a model has; `backbone` are those of all that aren't of heads.
    ///
    /// # Errors
    /// Layers that the file has and the model hasn't, and those that the settings mean and the file has nothing for.
    pub(super) fn check_layers(&self, all: &[String], backbone: &[String]) -> Result<()> {
        let module = |name: &str| {
            let module = name.rsplit_once(".lora_").map_or(name, |(module, _)| module);
            module.strip_prefix(PREFIX).unwrap_or(module).to_owned()
        };
        let known = |name: &&str| all.iter().any(|own| same_tensor(own, &module(name)));
        let strange = self.reader.names().filter(|name| is_factor(name) && !known(name));
        let mut problems: Vec<_> = strange.map(|name| format!("{name} belongs to no layer of this model")).collect();
        let targets = &self.config.targets;
        let meant = |module: &&String| targets.mean(module) == Some(true) && targets::layer_of(module).is_some();
        let missing: Vec<_> = backbone.iter().filter(meant).filter(|module| !self.changes(module)).collect();
        if let [first, others @ ..] = &missing[..] {
            let others = if others.is_empty() { String::new() } else { format!(" and {} more", others.len()) };
            problems.push(format!("it has no change of {first}{others}, which its target_modules mean"));
        }
        self.fits(&problems)
    }

    /// # Errors
    /// These problems, if there are any, with what the adapter says that it was made for.
    fn fits(&self, problems: &[String]) -> Result<()> {
        if problems.is_empty() {
            return Ok(());
        }
        let made = self.config.base.as_ref().filter(|base| !base.is_empty() && *base != "..");
        let hint = made.map(|base| format!("its {CONFIG} says that it was made for `{base}`"));
        let path = self.directory.join(&self.file);
        let error = anyhow::Error::from(Hinted::new(problems.join("\n"), hint));
        Err(error.context(format!("{} doesn't fit the model", path.display())))
    }

    /// The values of an adapter's parameters.
    pub(super) fn source(&self) -> AdapterSource<'_> {
        let whole = self.whole();
        let own = |name: &&str| !self.is_within() || self.owns(name);
        let names = self.reader.names().filter(own).filter(|name| !whole.values().any(|key| key == name));
        AdapterSource { adapter: self, unused: names.map(str::to_owned).collect(), problems: Vec::new() }
    }
}

/// Whether a tensor is A or B of a layer.
fn is_factor(name: &str) -> bool {
    name.contains(".lora_A.") || name.contains(".lora_B.")
}

/// Whether two names are those of one tensor, one of them with another class's module before it.
pub(super) fn same_tensor(one: &str, other: &str) -> bool {
    let ends =
        |whole: &str, end: &str| whole.strip_suffix(end).is_some_and(|rest| rest.is_empty() || rest.ends_with('.'));
    ends(one, other) || ends(other, one)
}

/// The tensors of an adapter, and what was found to be wrong with them so far.
pub(super) struct AdapterSource<'a> {
    adapter: &'a Peft,
    unused: BTreeSet<String>,
    problems: Vec<String>,
}

impl AdapterSource<'_> {
    fn read(&mut self, name: &str, shape: &[usize]) -> Result<Vec<f32>> {
        let names = if name == prefix::NAME { vec![PROMPT, name] } else { vec![name] };
        let key = names.iter().find_map(|name| self.adapter.key(name));
        let key = key.with_context(|| format!("{} is missing", names[0]))?;
        self.unused.remove(&key);
        let found = self.adapter.shape(&key)?;
        ensure!(found == shape, "{key} has the shape {found:?} instead of {shape:?}");
        self.adapter.reader.read(&key)
    }

    /// # Errors
    /// All that was wrong, a line each.
    pub(super) fn finish(mut self) -> Result<()> {
        self.problems.extend(self.unused.iter().map(|name| format!("{name} belongs to no layer of this model")));
        self.adapter.fits(&self.problems)
    }
}

impl ValueSource for AdapterSource<'_> {
    fn values(&mut self, name: &str, shape: &[usize], _initial: Initial) -> TensorData {
        match self.read(name, shape) {
            Ok(values) => TensorData::new(values, shape),
            Err(error) => {
                self.problems.push(format!("{error:#}"));
                TensorData::zeros::<f32, _>(vec![0; shape.len()])
            }
        }
    }
}
