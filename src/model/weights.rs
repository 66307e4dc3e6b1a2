//! `config.json` and `model.safetensors`, in Hugging Face's layout.

use std::{collections::BTreeSet, path::Path};

use anyhow::{Context, Result, bail};
use burn::tensor::{Device, TensorData};
use fs_err as fs;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::{
    family,
    heads::ClassifierConfig,
    initial::Initial,
    network::Network,
    parameters::{Builder, Parameters, Source},
    tensors::{self, Entry, Reader},
};

const CONFIG: &str = "config.json";
const WEIGHTS: &str = "model.safetensors";

/// What Hugging Face's classes with a head put before the backbone's names.
const PREFIXES: [&str; 1] = ["glm."];

/// Under the key `pipe` of `config.json`: which heads the model has.
#[derive(Debug, Default, Deserialize, Serialize)]
struct Heads {
    #[serde(default)]
    pair: bool,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    classifier: Option<ClassifierConfig>,
}

impl Network {
    /// Writes `config.json` and `model.safetensors` into `directory`; the same model gives the same bytes.
    ///
    /// # Errors
    /// The file system's and the device's.
    pub fn save(&self, directory: &Path) -> Result<()> {
        let mut config = self.family().config();
        let heads = Heads { pair: self.pair.is_some(), classifier: self.classifier.as_ref().map(|head| head.config) };
        if heads.pair || heads.classifier.is_some() {
            config["pipe"] = json!(heads);
        }
        let mut text = serde_json::to_string_pretty(&config)?;
        text.push('\n');
        fs::write(directory.join(CONFIG), text)?;
        tensors::write(&directory.join(WEIGHTS), self.parameters().entries())
    }

    /// Reads what [`Self::save`] or Hugging Face wrote.
    ///
    /// # Errors
    /// Files that are missing or broken, families and settings that aren't supported, and everything that is missing,
    /// unexpected or of another shape among the tensors, all at once.
    pub fn load(directory: &Path, device: &Device) -> Result<Self> {
        let path = directory.join(CONFIG);
        let read = || -> Result<(Value, Heads)> {
            let config: Value = serde_json::from_slice(&fs::read(&path)?)?;
            let heads = config.get("pipe").cloned().map(serde_json::from_value).transpose()?;
            Ok((config, heads.unwrap_or_default()))
        };
        let (config, heads) = read().with_context(|| format!("can't read {}", path.display()))?;

        let mut stored = Stored::open(&directory.join(WEIGHTS))?;
        let mut parameters = Parameters::new(device);
        let mut builder = Builder { parameters: &mut parameters, source: &mut stored };
        let family = family::from_config(&config, &mut builder).with_context(|| format!("{}", path.display()))?;
        let mut network = Self::from_parts(parameters, family);
        if heads.pair {
            network.pair = Some(network.make_pair_head(&mut stored));
        }
        if let Some(config) = heads.classifier {
            network.classifier = Some(network.make_classifier(config, &mut stored));
        }
        stored.finish().with_context(|| format!("{} doesn't fit {CONFIG}", directory.join(WEIGHTS).display()))?;
        Ok(network)
    }
}

impl Parameters {
    /// All of them, for writing.
    pub(crate) fn entries(&self) -> Vec<Entry<'_>> {
        let vectors = self.vectors.iter().map(|parameter| Entry {
            name: parameter.name.clone(),
            shape: parameter.value.dims().to_vec(),
            values: Box::new(|| parameter.data()),
        });
        let matrices = self.matrices.iter().map(|parameter| Entry {
            name: parameter.name.clone(),
            shape: parameter.value.dims().to_vec(),
            values: Box::new(|| parameter.data()),
        });
        vectors.chain(matrices).collect()
    }
}

/// A checkpoint, and what was found to be wrong with it so far.
struct Stored {
    reader: Reader,
    unused: BTreeSet<String>,
    problems: Vec<String>,
}

impl Stored {
    fn open(path: &Path) -> Result<Self> {
        let reader = Reader::open(path)?;
        Ok(Self { unused: reader.names().map(str::to_owned).collect(), reader, problems: Vec::new() })
    }

    fn try_values(&mut self, name: &str, shape: &[usize]) -> Result<Vec<f32>> {
        let prefixed = PREFIXES.iter().map(|prefix| format!("{prefix}{name}"));
        let stored = std::iter::once(name.to_owned()).chain(prefixed).find(|name| self.reader.shape(name).is_some());
        let Some(stored) = stored else { bail!("{name} is missing") };
        self.unused.remove(&stored);
        match self.reader.shape(&stored) {
            Some(other) if other != shape => bail!("{name} has the shape {other:?} instead of {shape:?}"),
            _ => self.reader.read(&stored),
        }
    }

    /// # Errors
    /// All that was wrong, a line each.
    fn finish(mut self) -> Result<()> {
        self.problems.extend(self.unused.iter().map(|name| format!("{name} is not part of this model")));
        if self.problems.is_empty() { Ok(()) } else { bail!("{}", self.problems.join("\n")) }
    }
}

impl Source for Stored {
    fn values(&mut self, name: &str, shape: &[usize], _initial: Initial) -> TensorData {
        match self.try_values(name, shape) {
            Ok(values) => TensorData::new(values, shape),
            Err(error) => {
                self.problems.push(format!("{error:#}"));
                // The network won't be used, so that its shapes don't matter; those of the config may be absurd.
                TensorData::zeros::<f32, _>(vec![0; shape.len()])
            }
        }
    }
}
