//! Adapters as PEFT stores them: `adapter_config.json` and `adapter_model.safetensors`.
//!
//! The tensors are named `base_model.model.MODULE.lora_A.weight` and `….lora_B.weight`, by the module's name in the
//! model's own checkpoint, and heads `base_model.model.NAME`. A prefix is `prompt_embeddings`, or has ChatGLM's name.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::{Path, PathBuf},
};

use anyhow::{Context, Result, bail, ensure};
use burn::tensor::TensorData;
use fs_err as fs;
use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::prefix;
use crate::{
    network::{
        checkpoint::{ADAPTER as CONFIG, ADAPTER_WEIGHTS as WEIGHTS},
        model::{
            ids::WeightRole,
            initial::{Initial, ValueSource},
            network::Network,
            tensors::{self, Reader, TensorEntry},
        },
    },
    spec::{Adapter, BaseDtype, Lora, PTuning},
};

/// What PEFT puts before the names of the model's modules.
pub(super) const PREFIX: &str = "base_model.model.";
/// The directory of the adapter, beside the weights that it belongs to.
pub(super) const FOLDER: &str = "adapter";

const PROMPT: &str = "prompt_embeddings";

/// Settings that change what is computed, and aren't known here; nothing may stand there.
const UNKNOWN: [&str; 16] = [
    "use_rslora",
    "use_dora",
    "use_qalora",
    "use_bdlora",
    "lora_bias",
    "rank_pattern",
    "alpha_pattern",
    "layer_replication",
    "target_parameters",
    "trainable_token_indices",
    "alora_invocation_tokens",
    "arrow_config",
    "kasa_config",
    "monteclora_config",
    "velora_config",
    "prefix_projection",
];

/// The settings that matter.
#[derive(Deserialize)]
struct Config {
    peft_type: String,
    r: Option<usize>,
    lora_alpha: Option<f64>,
    #[serde(default)]
    lora_dropout: f64,
    #[serde(default)]
    fan_in_fan_out: bool,
    num_virtual_tokens: Option<usize>,
    #[serde(flatten)]
    other: Map<String, Value>,
}

/// A stored adapter.
pub(crate) struct Peft {
    directory: PathBuf,
    config: Config,
    settings: Adapter,
    reader: Reader,
}

/// The names of A and B of a module.
pub(super) fn keys(module: &str) -> [String; 2] {
    ["lora_A", "lora_B"].map(|part| format!("{PREFIX}{module}.{part}.weight"))
}

impl Peft {
    /// The adapter in a directory or in its folder `adapter`, where there is one.
    ///
    /// # Errors
    /// Files that can't be read, and settings that aren't known.
    pub(crate) fn open(directory: &Path) -> Result<Option<Self>> {
        let places = [directory.to_owned(), directory.join(FOLDER)];
        let Some(directory) = places.into_iter().find(|place| place.join(CONFIG).is_file()) else { return Ok(None) };
        let path = directory.join(CONFIG);
        let read = || -> Result<(Config, Adapter)> {
            let config: Config = serde_json::from_slice(&fs::read(&path)?)?;
            let settings = config.settings()?;
            Ok((config, settings))
        };
        let (config, settings) = read().with_context(|| format!("can't use the adapter of {}", path.display()))?;
        let reader = Reader::open(&directory.join(WEIGHTS))?;
        Ok(Some(Self { directory, config, settings, reader }))
    }

    /// As a recipe would have it.
    pub(crate) fn settings(&self) -> &Adapter {
        &self.settings
    }

    /// Copies its files to where they are found beside the model in a directory.
    ///
    /// # Errors
    /// The file system's.
    pub(crate) fn copy(&self, to: &Path) -> Result<()> {
        let to = to.join(FOLDER);
        fs::create_dir_all(&to)?;
        for file in [CONFIG, WEIGHTS] {
            fs::copy(self.directory.join(file), to.join(file))?;
        }
        Ok(())
    }

    /// Tensors that stand for some of the model's own, by their names there: heads that were trained with it.
    pub(crate) fn whole(&self) -> BTreeMap<&str, &str> {
        let own = |name: &str| name.contains(".lora_A.") || name.contains(".lora_B.");
        let names = self.reader.names().filter(|name| !own(name));
        names.filter_map(|name| Some((name.strip_prefix(PREFIX)?, name))).collect()
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

    /// What a linear layer's `NAME.weight` gains in a checkpoint, in that checkpoint's layout; `None` where it stays.
    ///
    /// # Errors
    /// Those of reading, and factors that don't fit one another.
    pub(crate) fn gain(&self, name: &str) -> Result<Option<Vec<f32>>> {
        let (Adapter::Lora(lora), Some(module)) = (&self.settings, name.strip_suffix(".weight")) else {
            return Ok(None);
        };
        let [Some(a), Some(b)] = keys(module).map(|name| self.key(&name)) else { return Ok(None) };
        let (&[r, width], &[rows, columns]) = (self.shape(&a)?, self.shape(&b)?) else {
            bail!("{a} or {b} is no matrix");
        };
        ensure!(r == columns, "{a} has {r} rows, and {b} {columns} columns");
        let (a, b) = (self.reader.read(&a)?, self.reader.read(&b)?);
        let scale = (lora.alpha / lora.r as f64) as f32;
        let mut gain = vec![0.0; rows * width];
        for (row, gain) in gain.chunks_exact_mut(width.max(1)).enumerate() {
            for (factor, a) in b[row * r..][..r].iter().zip(a.chunks_exact(width.max(1))) {
                gain.iter_mut().zip(a).for_each(|(gain, a)| *gain += factor * a);
            }
            gain.iter_mut().for_each(|gain| *gain *= scale);
        }
        if self.config.fan_in_fan_out {
            let column = |column: usize| (0..rows).map(move |row| row * width + column);
            gain = (0..width).flat_map(column).map(|at| gain[at]).collect();
        }
        Ok(Some(gain))
    }

    fn shape(&self, name: &str) -> Result<&[usize]> {
        self.reader.shape(name).with_context(|| format!("{} has no {name}", self.directory.join(WEIGHTS).display()))
    }

    /// The name in this file of a tensor: classes differ in what stands before the names of their modules.
    fn key(&self, name: &str) -> Option<String> {
        if self.reader.shape(name).is_some() {
            return Some(name.to_owned());
        }
        let name = name.strip_prefix(PREFIX).unwrap_or(name);
        let alike = |key: &&str| {
            let key = key.strip_prefix(PREFIX).unwrap_or(key);
            key.strip_suffix(name).or_else(|| name.strip_suffix(key)).is_some_and(|rest| rest.ends_with('.'))
        };
        self.reader.names().find(alike).map(str::to_owned)
    }

    /// The values of an adapter's parameters.
    pub(super) fn source(&self) -> AdapterSource<'_> {
        let whole = self.whole();
        let names = self.reader.names().filter(|name| !whole.values().any(|key| key == name));
        AdapterSource { adapter: self, unused: names.map(str::to_owned).collect(), problems: Vec::new() }
    }
}

impl Config {
    fn settings(&self) -> Result<Adapter> {
        for field in UNKNOWN {
            let value = self.other.get(field).unwrap_or(&Value::Null);
            let empty = match value {
                Value::Null | Value::Bool(false) => true,
                Value::Array(list) => list.is_empty(),
                Value::Object(map) => map.is_empty(),
                _ => false,
            };
            ensure!(empty, "{field} {value} isn't supported");
        }
        let bias = self.other.get("bias").and_then(Value::as_str).unwrap_or("none");
        ensure!(bias == "none", "bias {bias} isn't supported");
        let base_dtype = BaseDtype::default();
        match self.peft_type.as_str() {
            "LORA" => {
                let r = self.r.filter(|&r| r > 0).context("there is no rank `r`")?;
                let targets = match self.other.get("target_modules") {
                    Some(Value::Array(targets)) => {
                        targets.iter().filter_map(|target| target.as_str().map(str::to_owned)).collect()
                    }
                    // A pattern; the tensors say which layers it met.
                    Some(Value::String(pattern)) => vec![pattern.clone()],
                    _ => Vec::new(),
                };
                let (alpha, dropout) = (self.lora_alpha.unwrap_or(r as f64), self.lora_dropout);
                Ok(Adapter::Lora(Lora { r, alpha, dropout, targets, base_dtype }))
            }
            "PREFIX_TUNING" => {
                let tokens = self.num_virtual_tokens.context("there are no num_virtual_tokens")?;
                Ok(Adapter::PTuning(PTuning { tokens, dropout: 0.0, base_dtype }))
            }
            other => bail!("peft_type {other} isn't supported; LORA and PREFIX_TUNING are"),
        }
    }
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
        if self.problems.is_empty() {
            return Ok(());
        }
        let path = self.adapter.directory.join(WEIGHTS);
        Err(anyhow::anyhow!(self.problems.join("\n")).context(format!("{} doesn't fit the model", path.display())))
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

/// Writes all that a network learns, its adapter and heads, into the folder `adapter` of a directory.
///
/// # Errors
/// The file system's and the device's.
pub(super) fn write(network: &Network, settings: &Adapter, directory: &Path) -> Result<()> {
    let directory = directory.join(FOLDER);
    fs::create_dir_all(&directory)?;
    let on_disk = &network.family().on_disk;
    let parameters = network.parameters();
    let key = |name: &str| match name {
        prefix::NAME => PROMPT.to_owned(),
        name if name.starts_with(PREFIX) => name.to_owned(),
        name => format!("{PREFIX}{}", on_disk.written(name)),
    };
    let mut entries = Vec::new();
    let mut heads = BTreeSet::new();
    for parameter in parameters.iter().filter(|parameter| parameter.is_trainable()) {
        // Adapters have no vectors themselves.
        if parameter.role == WeightRole::Vector {
            let module = parameter.name.trim_end_matches(".bias").trim_end_matches(".weight");
            heads.insert(on_disk.written(module));
        }
        entries.push(TensorEntry::single(key(&parameter.name), parameter.shape(), || parameter.data()));
    }
    tensors::write(&directory.join(WEIGHTS), entries)?;
    let mut config = match settings {
        Adapter::Lora(lora) => json!({
            "peft_type": "LORA",
            "r": lora.r,
            "lora_alpha": whole(lora.alpha),
            "lora_dropout": lora.dropout,
            "target_modules": lora.targets,
            "fan_in_fan_out": !on_disk.transposed.is_empty(),
            "bias": "none",
            "init_lora_weights": true,
            "use_rslora": false,
            "use_dora": false,
        }),
        Adapter::PTuning(tuning) => json!({
            "peft_type": "PREFIX_TUNING",
            "num_virtual_tokens": tuning.tokens,
            "num_transformer_submodules": 1,
            "num_layers": parameters.attentions.len(),
            "num_attention_heads": parameters.attentions.first().map(|attention| attention.kv_heads),
            "token_dim": parameters.attentions.first().map(|attention| attention.width),
            "encoder_hidden_size": parameters.attentions.first().map(|attention| attention.width),
            "prefix_projection": false,
        }),
    };
    config["base_model_name_or_path"] = "..".into();
    config["inference_mode"] = true.into();
    config["task_type"] = Value::Null;
    if !heads.is_empty() {
        config["modules_to_save"] = json!(heads);
    }
    Ok(fs::write(directory.join(CONFIG), format!("{config:#}\n"))?)
}

/// PEFT writes whole numbers without a point.
fn whole(number: f64) -> Value {
    if number.fract() == 0.0 && number.abs() < 1e9 { json!(number as i64) } else { json!(number) }
}
