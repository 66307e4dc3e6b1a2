//! The model that a stage begins with: what another stage made, or a checkpoint as it lies in its directory.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use fs_err as fs;
use serde_json::{Value, json};

use super::super::facts::Field;
use crate::{
    data::text::{ABSENT, Tokenizer},
    engine::executor::Inputs,
    learning::generation::GenerationDefaults,
    network::checkpoint::{self, CONFIG},
    spec,
    support::Hinted,
};

/// The tokenizer's file in the artifacts of tokenize, pretrain and finetune stages.
pub(in crate::stages) const TOKENIZER: &str = "tokenizer.json";

/// A model that exists, and its tokenizer.
pub(in crate::stages) struct Origin {
    /// The directory with `config.json` and the weights.
    pub model: PathBuf,
    /// The tokenizer's file, or the directory that it lies in.
    pub tokenizer: PathBuf,
    /// Whether texts are spelt in bytes, as there is no tokenizer and the recipe says so.
    bytes: bool,
}

/// The fields of a setting that is a [`spec::Origin`].
#[derive(Clone, Copy, Debug)]
pub(in crate::stages) struct OriginFields {
    /// The one that names a stage.
    pub stage: Field,
    /// The one that names a checkpoint.
    pub checkpoint: Field,
    /// The one that names another tokenizer than the checkpoint's.
    pub tokenizer: Field,
}

impl Origin {
    /// What these fields of the stage's settings name: a stage, or a checkpoint. `origin` is the setting, where texts may be
    /// spelt in bytes.
    pub(in crate::stages) fn of(
        inputs: &Inputs<'_>,
        fields: &OriginFields,
        origin: Option<&spec::Origin>,
    ) -> Option<Self> {
        if let Some(artifact) = fields.stage.artifact(inputs) {
            return Some(Self::at(&artifact.path, None, false));
        }
        let may_spell = origin.is_some_and(spec::Origin::falls_back_on_bytes);
        Some(Self::at(fields.checkpoint.file(inputs)?, fields.tokenizer.file(inputs), may_spell))
    }

    /// The model in a directory, with another tokenizer than that beside it where one is named; `may_spell` tells whether
    /// texts may be spelt in bytes.
    pub(in crate::stages) fn at(model: &Path, tokenizer: Option<&Path>, may_spell: bool) -> Self {
        let tokenizer = tokenizer.map_or_else(|| checkpoint::tokenizer_place(model), Path::to_owned);
        let bytes = may_spell && checkpoint::tokenizer(&tokenizer).is_empty();
        Self { model: model.to_owned(), tokenizer, bytes }
    }

    /// As [`Self::of`], where there has to be one, with a tokenizer if one is used.
    ///
    /// # Errors
    /// If it isn't set.
    pub(in crate::stages) fn needed(inputs: &Inputs<'_>, fields: &OriginFields) -> Result<Self> {
        Self::of(inputs, fields, None).with_context(|| format!("`{}` was not resolved", fields.stage.0))
    }

    /// Whether it has a tokenizer.
    pub(in crate::stages) fn has_tokenizer(&self) -> bool {
        self.bytes || !checkpoint::tokenizer(&self.tokenizer).is_empty()
    }

    /// Loads its tokenizer.
    pub(in crate::stages) fn load_tokenizer(&self) -> Result<Tokenizer> {
        if self.bytes {
            return Tokenizer::bytes(&self.model.join(CONFIG));
        }
        let hint = || "name one beside the checkpoint, under `tokenizer`".to_owned();
        ensure!(self.has_tokenizer(), Hinted::new(format!("{} has no tokenizer", self.tokenizer.display()), hint()));
        Tokenizer::load(&self.tokenizer)
    }

    /// Copies its tokenizer's files into a directory, as they are.
    pub(in crate::stages) fn copy_tokenizer(&self, to: &Path) -> Result<()> {
        if self.bytes {
            return self.load_tokenizer()?.save(&to.join(TOKENIZER));
        }
        copy_tokenizer(&self.tokenizer, to)
    }
}

/// Copies the files of the tokenizer at `from`, a file or a directory. A file gets the name that it's known by.
pub(in crate::stages) fn copy_tokenizer(from: &Path, to: &Path) -> Result<()> {
    let known = |extension: &str| match extension {
        "txt" => "vocab.txt",
        "model" => "tokenizer.model",
        _ => TOKENIZER,
    };
    for file in checkpoint::tokenizer(from) {
        let name = match from.is_dir() {
            true => file.file_name().unwrap_or_default().to_owned(),
            false => known(&file.extension().unwrap_or_default().to_string_lossy()).into(),
        };
        fs::copy(&file, to.join(name))?;
    }
    Ok(())
}

/// Copies what the model at `from` says of how it writes, if it does. Of the tokens that end a text it also has those in
/// `ends`: what has learned to end with one stops there for others, too.
pub(in crate::stages) fn copy_settings(from: &Path, to: &Path, ends: &[u32]) -> Result<()> {
    const ENDS: &str = "eos_token_id";
    for file in checkpoint::settings(from) {
        let target = to.join(file.file_name().unwrap_or_default());
        let known = GenerationDefaults::read(&checkpoint::base(from))?.ends;
        let mut settings: spec::OpenSettings = serde_json::from_slice(&fs::read(&file)?)?;
        let ends: Vec<u32> = known.iter().chain(ends).copied().filter(|&id| id != ABSENT).collect();
        let new = ends.iter().any(|id| !known.contains(id)) || settings.get(ENDS).is_none_or(Value::is_null);
        if !new || ends.is_empty() {
            fs::copy(&file, &target)?;
            continue;
        }
        let mut all: Vec<u32> = Vec::new();
        for id in ends {
            if !all.contains(&id) {
                all.push(id);
            }
        }
        settings.insert(ENDS.to_owned(), if let [only] = all[..] { json!(only) } else { json!(all) });
        fs::write(&target, serde_json::to_string_pretty(&settings)? + "\n")?;
    }
    Ok(())
}
