//! A stage's model for other programs: its files as transformers expects them, with all that is known of the model.
//!
//! Artifacts keep what is needed to go on with a model here. What transformers wants beside that (labels, ends, dropout, how
//! texts are framed) is known by other files of the artifact and is put together when the model is handed out, so that it
//! is part of no artifact but an export's.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::{Path, PathBuf},
};

use anyhow::{Context, Result};
use fs_err as fs;
use serde_json::{Value, json};

use super::{origin::TOKENIZER, outputs, task::TrainedFor, wide::Wide};
use crate::{
    data::text::{ABSENT, Frame, Specials, Tokenizer, TransformersTokenizer},
    engine::store::Artifact,
    learning::objectives::form::AnswerForm,
    network::{
        checkpoint::{self, ADAPTER, ADAPTER_FOLDER, CONFIG},
        model::{self, Answers, CopyOptions, Family, Outline, TransformersConfig, TransformersHead},
    },
    spec::{Dtype, Head, Outputs, Pooling, Train, WeightForm},
};

/// Stands for a text where its frame is asked for.
const TEXT: u32 = ABSENT - 1;

/// Weights that have to be written anew go into files of this many bytes at most, as an export stage has it by default.
pub(in crate::stages) const MOST: u64 = 5_000_000_000;

/// A model that is handed out.
pub struct TransformersFiles<'a> {
    directory: &'a Path,
    known: Option<Known>,
    /// Whether weights can't be copied as they are.
    rewrites: bool,
    /// What they are rounded to, for this program to read again.
    form: Option<WeightForm>,
}

impl<'a> TransformersFiles<'a> {
    /// The model of an artifact, with its weights in a `form` that this program knows, if one is named.
    ///
    /// # Errors
    /// Files that are missing or broken.
    pub fn of(artifact: &'a Artifact, form: Option<WeightForm>) -> Result<Self> {
        let directory = artifact.path.as_path();
        let known = Known::of(artifact)?;
        let rewrites = match &known {
            Some(known) => model::has_codes(directory)? || model::has_tensor(directory, known.head.without())?,
            None => false,
        };
        Ok(Self { directory, known, rewrites, form })
    }

    /// What there is to say about it.
    ///
    /// # Errors
    /// Weights that can't be read.
    pub fn notes(&self) -> Result<Vec<String>> {
        let mut notes = self.known.as_ref().map(|known| known.notes(self.directory)).transpose()?.unwrap_or_default();
        if self.form.is_none() && self.known.is_some() && model::has_codes(self.directory)? {
            notes.push("the weights that are kept in int8 are written as f32".to_owned());
        }
        Ok(notes)
    }

    /// The names of its files.
    pub fn names(&self) -> Vec<PathBuf> {
        let files = match self.form {
            Some(_) => checkpoint::companions(self.directory),
            None => checkpoint::files(self.directory),
        };
        let mut names: Vec<PathBuf> = files.iter().map(|file| self.place(file)).collect();
        if self.rewrites || self.form.is_some() {
            names.extend([checkpoint::WEIGHTS, checkpoint::INDEX].map(PathBuf::from));
        }
        if let Some(known) = &self.known {
            names.extend(known.tokenizer.iter().flat_map(|_| TransformersTokenizer::FILES.map(PathBuf::from)));
            names.extend(known.writes().then(|| checkpoint::GENERATION.into()));
        }
        names.sort();
        names.dedup();
        names
    }

    /// Where a file is to lie. An adapter stays in its folder: beside the model's own files, transformers would add it to
    /// the model on loading.
    fn place(&self, file: &Path) -> PathBuf {
        let place = file.strip_prefix(self.directory).ok().or(file.file_name().map(Path::new));
        place.unwrap_or(file).to_owned()
    }

    /// Writes them into a directory.
    ///
    /// # Errors
    /// The file system's, and weights that can't be read.
    pub fn write(&self, to: &Path) -> Result<()> {
        if let Some(form) = self.form {
            model::copy_held(self.directory, to, form, u64::MAX)?;
            return self.known.as_ref().map_or(Ok(()), |known| known.complete(to));
        }
        let base = checkpoint::base(self.directory);
        let weights = checkpoint::weight_files(&base)?;
        for file in checkpoint::files(self.directory) {
            let place = self.place(&file);
            let is_weights = weights.iter().any(|weights| place == Path::new(weights));
            if is_weights && self.rewrites {
                continue;
            }
            let target = to.join(place);
            fs::create_dir_all(target.parent().unwrap_or(to))?;
            fs::copy(&file, target)?;
        }
        if let Some(known) = &self.known {
            if self.rewrites {
                let options = CopyOptions { dtype: Dtype::Stored, most: MOST, without: known.head.without() };
                model::copy_base(self.directory, to, &options)?;
            }
            known.complete(to)?;
        }
        let adapter = to.join(ADAPTER_FOLDER);
        if adapter.join(ADAPTER).is_file() { model::settle(&adapter, to) } else { Ok(()) }
    }
}

/// What is known of a model that a stage of ours trained.
pub(in crate::stages) struct Known {
    task: TrainedFor,
    family: &'static Family,
    /// Its linear head.
    pub head: TransformersHead,
    dropout: Option<f64>,
    /// Its tokenizer, if only `tokenizer.json` tells of it.
    tokenizer: Option<Tokenizer>,
    specials: Option<Specials>,
    max_length: usize,
    segments: usize,
}

impl Known {
    /// Of an artifact; of what was imported or exported nothing more is known than its files say.
    pub(in crate::stages) fn of(artifact: &Artifact) -> Result<Option<Self>> {
        let directory = artifact.path.as_path();
        if !TrainedFor::is_in(directory) {
            return Ok(None);
        }
        let (config, task) = (read(&directory.join(CONFIG))?, TrainedFor::read(directory)?);
        let outline = Outline::of_config(&config)?;
        let files = checkpoint::tokenizer(directory);
        let tokenizer = if files.is_empty() { None } else { Some(Tokenizer::load(directory)?) };
        let specials = tokenizer.as_ref().map(|tokenizer| tokenizer.special);
        let alone = files.len() == 1 && files[0].ends_with(TOKENIZER);
        Ok(Some(Self {
            dropout: dropout(&artifact.provenance.spec, task.from_checkpoint),
            task,
            family: outline.family(),
            head: TransformersHead::of(&config)?,
            tokenizer: tokenizer.filter(|_| alone),
            specials,
            max_length: outline.architecture().sizes().max_length,
            segments: outline.architecture().segments(),
        }))
    }

    /// Adds what is known to the model's files in a directory.
    pub(in crate::stages) fn complete(&self, directory: &Path) -> Result<()> {
        let path = directory.join(CONFIG);
        let mut config = read(&path)?;
        let task = self.task.classification.as_ref();
        // In the order of the classes.
        let words: BTreeMap<&String, &String> = task.iter().flat_map(|task| &task.words).collect();
        let prompt = task.filter(|task| task.head == Head::Prompt);
        let outputs = self.task.outputs.as_ref();
        let names = outputs.map(Outputs::names).unwrap_or_default();
        let model = TransformersConfig {
            labels: words.keys().map(|label| label.as_str()).chain(names.iter().map(String::as_str)).collect(),
            answers: outputs.map_or(Answers::One, outputs::answers),
            prompt: prompt.map(|task| json!({ "template": task.template, "words": words })),
            dropout: self.dropout,
            tokens: self.tokens(),
        };
        model.describe(&mut config)?;
        fs::write(&path, format!("{config:#}\n"))?;
        let generation = directory.join(checkpoint::GENERATION);
        if let Some(settings) = self.generation(&config).filter(|_| !generation.exists()) {
            fs::write(generation, format!("{settings:#}\n"))?;
        }
        let Some(tokenizer) = &self.tokenizer else { return Ok(()) };
        let token = |key: &str| config.get(key).and_then(|id| id.as_u64().or_else(|| id.get(0)?.as_u64()));
        let named = [("bos_token", token("bos_token_id")), ("eos_token", token("eos_token_id"))];
        let names = named.into_iter().filter_map(|(name, id)| Some((name, u32::try_from(id?).ok()?)));
        let frame = self.frame();
        TransformersTokenizer { frame, names: names.collect(), max_length: self.max_length }.write(tokenizer, directory)
    }

    /// Whether it's a model of our own that writes.
    fn writes(&self) -> bool {
        let writes = self.family.form != AnswerForm::Cloze && self.head == TransformersHead::None;
        writes && !self.task.from_checkpoint && self.specials.is_some()
    }

    /// What `generate` has to know to write what is written here: all ends, and the tokens that are never written.
    fn generation(&self, config: &Value) -> Option<Value> {
        let specials = self.specials.filter(|_| self.writes())?;
        let mut ends = vec![self.family.form.end(&specials), specials.eop, specials.sep];
        let mut known = BTreeSet::new();
        ends.retain(|&end| end != ABSENT && known.insert(end));
        let never: Vec<u32> = specials.ids().into_iter().filter(|id| !ends.contains(id)).collect();
        let mut settings = json!({ "eos_token_id": ends, "suppress_tokens": never });
        for key in ["bos_token_id", "pad_token_id", "decoder_start_token_id"] {
            if let Some(id) = config.get(key).filter(|id| !id.is_null()) {
                settings[key] = id.clone();
            }
        }
        Some(settings)
    }

    /// The special tokens that `config.json` has keys for.
    fn tokens(&self) -> Vec<(&'static str, u32)> {
        let Some(specials) = &self.specials else { return Vec::new() };
        let form = self.family.form;
        let own = self.family.token_keys.iter().map(|&(key, special)| (key, specials.id(special)));
        let end = (form != AnswerForm::Cloze).then(|| ("eos_token_id", form.end(specials)));
        // What ends a text may be read, so that it isn't taken for padding.
        let pad = Some(specials.pad).filter(|pad| end.is_none_or(|(_, end)| end != *pad));
        let all = own.chain(end).chain(pad.map(|pad| ("pad_token_id", pad)));
        all.filter(|&(_, id)| id != ABSENT).collect()
    }

    /// What stands around a text: for a linear head as it's read, else as it's continued.
    fn frame(&self) -> Frame {
        let Some(specials) = &self.specials else { return Frame::default() };
        let form = self.family.form;
        let task = self.task.outputs.as_ref().map(Outputs::as_classification).or(self.task.classification.clone());
        let is_linear = task.as_ref().is_some_and(|task| task.head == Head::Linear);
        let last = task.is_some_and(|task| task.pooling == Some(Pooling::Last));
        if self.task.from_checkpoint && is_linear && last {
            // It's read as the checkpoint's tokenizer has it, which puts nothing there if it says nothing.
            return Frame::default();
        }
        let example = match form {
            AnswerForm::Cloze => form.plain(0, &[TEXT], specials),
            _ if is_linear => form.plain(0, &[TEXT], specials),
            _ => form.text(0, &[TEXT], specials).example,
        };
        let mut parts = example.tokens.split(|&token| token == TEXT).map(<[u32]>::to_vec);
        let mut part = || parts.next().unwrap_or_default();
        Frame { before: part(), after: part(), segments: self.segments > 1 }
    }

    /// What somebody should know who opens the model in transformers.
    pub(in crate::stages) fn notes(&self, directory: &Path) -> Result<Vec<String>> {
        let mut notes = Vec::new();
        let family = self.family.name;
        if self.head == TransformersHead::Unknown {
            notes.push(format!(
                "transformers has no class for a {family} model with this linear head, and opens the model without it"
            ));
        }
        let pools = self.family.classifier.is_some_and(|pooling| pooling == Pooling::First);
        let pooler = format!("{}pooler.", self.family.on_disk.prefix);
        if pools && !model::has_tensor(directory, &[&pooler])? {
            notes.push("the model has no pooler: where AutoModel makes a new one, it's untrained".to_owned());
        }
        if model::has_ngrams(directory)? {
            notes.push(
                "transformers ignores the model's embeddings of n-grams (`ngrams.*`) with a warning, and computes other \
                 numbers without them; here they are read"
                    .to_owned(),
            );
        }
        if Wide::is_in(directory) {
            notes.push(
                "transformers has nothing like the wide path: what is written is the network alone, and labels are those of \
                 the metric `accuracy_without_wide`"
                    .to_owned(),
            );
        }
        Ok(notes)
    }
}

/// The dropout that a stage trained with; none where it's the one of the checkpoint, which its config has already.
fn dropout(spec: &Value, from_checkpoint: bool) -> Option<f64> {
    let said = spec.pointer("/train/dropout").and_then(Value::as_f64);
    said.or((!from_checkpoint).then_some(Train::DROPOUT))
}

fn read(path: &Path) -> Result<Value> {
    serde_json::from_slice(&fs::read(path)?).with_context(|| format!("can't read {}", path.display()))
}
