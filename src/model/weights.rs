//! `config.json` and `model.safetensors`, in Hugging Face's layout.

use std::{collections::BTreeSet, path::Path};

use anyhow::{Context, Result, bail};
use burn::tensor::{Device, TensorData};
use fs_err as fs;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::{
    family::Kind,
    heads::{ClassifierConfig, PairHead, Pooler},
    initial::Initial,
    network::Network,
    on_disk::OnDisk,
    parameters::{Builder, Parameters, Source},
    tensors::{self, Entry, Reader},
};

const CONFIG: &str = "config.json";
const WEIGHTS: &str = "model.safetensors";

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
        config["architectures"] = json!([self.family().architecture(self.pair.is_some())]);
        let heads = Heads { pair: self.pair.is_some(), classifier: self.classifier.as_ref().map(|head| head.config) };
        if heads.pair || heads.classifier.is_some() {
            config["pipe"] = json!(heads);
        }
        let mut text = serde_json::to_string_pretty(&config)?;
        text.push('\n');
        fs::write(directory.join(CONFIG), text)?;
        tensors::write(&directory.join(WEIGHTS), self.family().on_disk().entries(self.parameters()))
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

        let described = || format!("{}", path.display());
        let kind = Kind::of(&config).with_context(described)?;
        let mut stored = Stored::open(&directory.join(WEIGHTS), kind.on_disk())?;
        let mut parameters = Parameters::new(device);
        let mut builder = Builder::new(&mut parameters, &mut stored);
        let family = kind.build(&config, &mut builder).with_context(described)?;
        let mut network = Self::from_parts(parameters, family);
        // Hugging Face doesn't say which heads there are.
        if heads.pair || stored.has(Pooler::WEIGHT) {
            network.make_pooler(&mut stored);
        }
        if heads.pair || stored.has(PairHead::WEIGHT) {
            network.make_pair_head(&mut stored);
        }
        if let Some(config) = heads.classifier {
            network.classifier = Some(network.make_classifier(config, &mut stored));
        }
        stored.finish().with_context(|| format!("{} doesn't fit {CONFIG}", directory.join(WEIGHTS).display()))?;
        Ok(network)
    }
}

impl Parameters {
    /// All of them under their own names, for writing.
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
    on_disk: &'static OnDisk,
    unused: BTreeSet<String>,
    problems: Vec<String>,
}

impl Stored {
    fn open(path: &Path, on_disk: &'static OnDisk) -> Result<Self> {
        let reader = Reader::open(path)?;
        let unused = reader.names().filter(|name| !on_disk.is_ignored(name)).map(str::to_owned).collect();
        Ok(Self { unused, reader, on_disk, problems: Vec::new() })
    }

    /// The name that a tensor has in this file.
    fn find(&self, name: &str) -> Option<String> {
        self.on_disk.spellings(name).into_iter().find(|name| self.reader.shape(name).is_some())
    }

    fn read(&mut self, name: &str, shape: &[usize]) -> Result<Vec<f32>> {
        let Some(stored) = self.find(name) else { bail!("{} is missing", self.on_disk.written(name)) };
        self.unused.remove(&stored);
        match self.reader.shape(&stored) {
            Some(other) if other != shape => bail!("{stored} has the shape {other:?} instead of {shape:?}"),
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
        match self.on_disk.join(name, shape, |part, shape| self.read(part, shape)) {
            Ok(values) => TensorData::new(values, shape),
            Err(error) => {
                self.problems.push(format!("{error:#}"));
                // The network won't be used, so that its shapes don't matter; those of the config may be absurd.
                TensorData::zeros::<f32, _>(vec![0; shape.len()])
            }
        }
    }

    fn has(&self, name: &str) -> bool {
        self.find(name).is_some()
    }
}
