//! `config.json` and the weights, in Hugging Face's layout.

use std::path::Path;

use anyhow::{Context, Result, ensure};
use burn::tensor::Device;
use fs_err as fs;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::{
    adapters::{Checkpoint, Peft},
    builder::Builder,
    checkpoint_source::CheckpointSource,
    class_labels::{ClassLabels, InOrder},
    families,
    family::Family,
    heads::{ClassifierConfig, HeadInput, PairHead, Pooler},
    holding::{ParameterMode, check_held},
    initial::ValueSource,
    network::Network,
    ngrams::{NgramSettings, Ngrams},
    parameters::Parameters,
    tensors::{self, TensorEntry},
};
use crate::{
    data::text::ABSENT,
    network::checkpoint::{self, CONFIG},
    spec::WeightForm,
};

/// Under the key `pipe` of `config.json`: what the model has beside its backbone.
#[derive(Debug, Default, Deserialize, Serialize)]
struct OwnConfig {
    #[serde(default)]
    pair: bool,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    classifier: Option<ClassifierConfig>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    ngrams: Option<NgramSettings>,
}

impl Network {
    /// Writes `config.json` and `model.safetensors` into `directory`; the same model gives the same bytes.
    ///
    /// An adapter and whatever else is learned with it go to the folder `adapter`, in PEFT's layout.
    ///
    /// # Errors
    /// The file system's and the device's.
    pub fn save(&self, directory: &Path) -> Result<()> {
        self.save_in_shards(directory, u64::MAX)
    }

    /// As [`Self::save`], in files of at most so many bytes.
    ///
    /// # Errors
    /// As [`Self::save`].
    pub fn save_in_shards(&self, directory: &Path, most: u64) -> Result<()> {
        self.save_config(directory)?;
        let adapted = self.is_adapted();
        let entries = self.family().on_disk.entries(self.parameters(), !adapted);
        tensors::write_in_shards(directory, entries, most)?;
        self.save_adapter(directory)
    }

    /// As [`Self::save`], for a network that was [frozen](Self::load_frozen) out of the directory `base`: where its
    /// backbone is what lies there, these files are linked, or copied where the file system has no links.
    ///
    /// # Errors
    /// The file system's and the device's.
    pub fn save_beside(&self, base: &Path, directory: &Path) -> Result<()> {
        if !self.is_stored_in(base)? {
            return self.save(directory);
        }
        self.save_config(directory)?;
        for file in checkpoint::weight_files(base)? {
            let (from, to) = (base.join(&file), directory.join(&file));
            if fs::hard_link(&from, &to).is_err() {
                fs::copy(&from, &to)?;
            }
        }
        self.save_adapter(directory)
    }

    /// Whether the files of the model in the directory `base`, which this one was [frozen](Self::load_frozen) out of, are those
    /// that its backbone would be written as.
    ///
    /// # Errors
    /// The file system's.
    pub fn is_stored_in(&self, base: &Path) -> Result<bool> {
        let files = Checkpoint::open_base(base)?;
        let alike = match files.is_quantized() {
            // A config that tells of ChatGLM's own codes isn't written.
            true => !self.rounded && !self.parameters().compact.is_empty() && !files.has_pairs(),
            false => self.parameters().compact.is_empty(),
        };
        Ok(alike && Peft::open(base)?.is_none())
    }

    fn save_config(&self, directory: &Path) -> Result<()> {
        let mut config = self.architecture().config();
        config["architectures"] = json!([self.architecture().class_name(self.pair.is_some())]);
        for (key, special) in self.family().token_keys {
            if let Some(id) = self.specials.map(|specials| specials.id(*special)).filter(|&id| id != ABSENT) {
                config[*key] = json!(id);
            }
        }
        let own = OwnConfig {
            pair: self.pair.is_some(),
            classifier: self.classifier.as_ref().map(|head| head.config),
            ngrams: self.parameters().ngrams.as_ref().map(|ngrams| ngrams.settings.clone()),
        };
        if own.pair || own.classifier.is_some() || own.ngrams.is_some() {
            config["pipe"] = json!(own);
        }
        let mut text = serde_json::to_string_pretty(&config)?;
        text.push('\n');
        Ok(fs::write(directory.join(CONFIG), text)?)
    }

    /// Reads what [`Self::save`] or Hugging Face wrote, a tensor at a time.
    ///
    /// # Errors
    /// Files that are missing or broken, families and settings that aren't supported, and everything that is missing,
    /// unexpected or of another shape among the tensors, all at once.
    pub fn load(directory: &Path, device: &Device) -> Result<Self> {
        Ok(Self::read(directory, device, &LoadOptions::ALL)?.0)
    }

    /// As [`Self::load`], with LoRA added to the weights that it changes.
    ///
    /// # Errors
    /// As [`Self::load`]; a prefix, which can't be merged.
    pub fn load_merged(directory: &Path, device: &Device) -> Result<Self> {
        Ok(Self::read(directory, device, &LoadOptions { merged: true, ..LoadOptions::ALL })?.0)
    }

    /// As [`Self::load_merged`]; with a type for `frozen` weights of linear layers, what is there stays as it is. What is
    /// added from then on is learned, and so are heads that are asked for again. A checkpoint from elsewhere has its linear
    /// head if it tells these `labels`, and none otherwise.
    ///
    /// # Errors
    /// As [`Self::load_merged`].
    pub fn load_to_train(
        directory: &Path,
        frozen: Option<WeightForm>,
        labels: Option<&[String]>,
        device: &Device,
    ) -> Result<Self> {
        let mode = frozen.map_or(ParameterMode::Trainable, ParameterMode::Frozen);
        let labels = Some(labels.unwrap_or_default());
        Ok(Self::read(directory, device, &LoadOptions { merged: true, mode, labels, ..LoadOptions::ALL })?.0)
    }

    /// As [`Self::load`], for a model that isn't trained any further: in this `form`, or with all that is in fewer bits as it
    /// is, where none is given.
    ///
    /// # Errors
    /// As [`Self::load`].
    pub fn load_held(directory: &Path, form: Option<WeightForm>, device: &Device) -> Result<Self> {
        let mode = form.map_or(ParameterMode::Stored, ParameterMode::Held);
        Ok(Self::read(directory, device, &LoadOptions { mode, ..LoadOptions::ALL })?.0)
    }

    /// As [`Self::load_held`], with LoRA added to the weights before they're rounded.
    ///
    /// # Errors
    /// As [`Self::load_merged`].
    pub fn load_merged_held(directory: &Path, form: WeightForm, device: &Device) -> Result<Self> {
        let mode = ParameterMode::Held(form);
        Ok(Self::read(directory, device, &LoadOptions { merged: true, mode, ..LoadOptions::ALL })?.0)
    }

    /// As [`Self::load_merged`], but frozen, the weights of linear layers in this type. What is added from then on is
    /// learned, and so are heads that are asked for again.
    ///
    /// # Errors
    /// As [`Self::load_merged`].
    pub fn load_frozen(directory: &Path, dtype: WeightForm, device: &Device) -> Result<Self> {
        Ok(Self::read(
            directory,
            device,
            &LoadOptions { merged: true, mode: ParameterMode::Frozen(dtype), ..LoadOptions::ALL },
        )?
        .0)
    }

    /// What [`Self::load`] would give, but without any values: only headers are read.
    ///
    /// # Errors
    /// As [`Self::load`].
    pub fn inspect(directory: &Path) -> Result<CheckpointSummary> {
        let options = LoadOptions { values: false, ..LoadOptions::ALL };
        let (network, parameters) = Self::read(directory, &Device::flex(), &options)?;
        let (family, sizes) = (network.family(), network.architecture().sizes());
        let taken = Peft::open(directory)?.map_or(0, |adapter| adapter.taken(&family.on_disk));
        let (vocabulary, max_length) = (sizes.vocabulary, sizes.max_length_behind(taken));
        Ok(CheckpointSummary { family, vocabulary, max_length, parameters, labels: network.labels })
    }

    /// The network, and how many elements its parameters have.
    fn read(directory: &Path, device: &Device, options: &LoadOptions<'_>) -> Result<(Self, u64)> {
        if let ParameterMode::Frozen(form) | ParameterMode::Held(form) = options.mode {
            check_held(form, device)?;
        }
        let checkpoint = Checkpoint::open(directory, options.merged)?;
        ensure!(
            !options.merged || checkpoint.prefix().is_none(),
            "the model in {} has a prefix (P-tuning), which is no part of any weight and can't be merged",
            directory.display()
        );
        let path = checkpoint.base().join(CONFIG);
        let read = || -> Result<(Value, OwnConfig)> {
            ensure!(path.exists(), "there is no such file, and nothing else says what the model is");
            let config: Value = serde_json::from_slice(&fs::read(&path)?)?;
            let own = config.get("pipe").cloned().map(serde_json::from_value).transpose()?;
            Ok((config, own.unwrap_or_default()))
        };
        let (config, own) = read().with_context(|| format!("can't read {}", path.display()))?;

        let described = || format!("{}", path.display());
        let family = families::of_config(&config).with_context(described)?;
        let mut stored = CheckpointSource::new(&checkpoint, &family.on_disk, options.values);
        let mut parameters = Parameters::new(device);
        // What has an adapter was frozen when that was trained, and is good for nothing else without merging.
        parameters.set_mode(match (checkpoint.adapter(), options.mode) {
            (Some(_), ParameterMode::Trainable) => ParameterMode::Frozen(checkpoint.form()),
            (_, mode) => mode,
        });
        let mut builder = Builder::new(&mut parameters, &mut stored);
        let architecture = family.build(&config, &mut builder).with_context(described)?;
        let ngrams = own.ngrams.map(|ngrams| Ngrams::new(&mut builder, &ngrams, &architecture.sizes()));
        parameters.ngrams = ngrams.transpose().with_context(described)?;
        let mut network = Self::from_parts(parameters, family, architecture);
        network.parameters_mut().set_mode(match options.mode {
            ParameterMode::Trainable => ParameterMode::Trainable,
            ParameterMode::Frozen(_) | ParameterMode::Held(_) | ParameterMode::Stored => {
                ParameterMode::Frozen(WeightForm::F32)
            }
        });
        // Hugging Face doesn't say which heads there are.
        let mut classifier = own.classifier;
        if classifier.is_none()
            && let Some((head, labels)) =
                ClassLabels::find(&config, family, |name| stored.rows(name)).with_context(described)?
        {
            let wanted = options.labels.is_none_or(|wanted| wanted == labels.names);
            if wanted {
                classifier = Some(head);
                network.labels = Some(labels);
            } else {
                stored.leave_out(head.name());
            }
        }
        let pooled = classifier.is_some_and(|head| head.input == HeadInput::Pooler);
        if own.pair || pooled || stored.has(Pooler::WEIGHT) {
            network.make_pooler(&mut stored);
        }
        if own.pair || stored.has(PairHead::WEIGHT) {
            network.make_pair_head(&mut stored);
        }
        if let Some(head) = classifier {
            let numbers = network.labels.as_ref().map(|labels| labels.numbers.clone());
            network.classifier = Some(match &numbers {
                Some(numbers) => network.make_classifier(head, &mut InOrder { source: &mut stored, numbers }),
                None => network.make_classifier(head, &mut stored),
            });
        }
        let (parameters, rounded) = (stored.parameters, stored.rounded);
        stored.finish().with_context(|| format!("the weights in {} don't fit its {CONFIG}", directory.display()))?;
        network.parameters_mut().set_mode(ParameterMode::Trainable);
        network.rounded = rounded;
        if let Some(adapter) = checkpoint.any_adapter() {
            network.check_adapter(adapter)?;
        }
        if let Some(adapter) = checkpoint.adapter().filter(|_| options.values) {
            network.adapt_as(adapter)?;
        }
        Ok((network, parameters))
    }
}

/// What is to become of a checkpoint.
struct LoadOptions<'a> {
    /// Whether values are read, or only headers.
    values: bool,
    /// Whether LoRA is added to the weights, and not kept beside them.
    merged: bool,
    /// What becomes of the backbone.
    mode: ParameterMode,
    /// The labels that a linear head from elsewhere is wanted for; whatever it tells where nothing is said.
    labels: Option<&'a [String]>,
}

impl LoadOptions<'_> {
    /// All of it, to be learned further.
    const ALL: Self = Self { values: true, merged: false, mode: ParameterMode::Trainable, labels: None };
}

/// What a checkpoint holds.
#[derive(Clone, Debug)]
pub struct CheckpointSummary {
    /// Its family.
    pub family: &'static Family,
    /// Entries of the vocabulary.
    pub vocabulary: usize,
    /// The longest sequence.
    pub max_length: usize,
    /// How many elements the parameters have.
    pub parameters: u64,
    /// What a linear head from elsewhere tells apart, if there is one.
    pub labels: Option<ClassLabels>,
}

impl Parameters {
    /// All that are learned under their own names, for writing.
    pub(crate) fn entries(&self) -> Vec<TensorEntry<'_>> {
        let learned = self.iter().filter(|parameter| parameter.is_trainable());
        learned
            .map(|parameter| TensorEntry::single(parameter.name.clone(), parameter.shape(), || parameter.data()))
            .collect()
    }
}
