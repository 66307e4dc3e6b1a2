//! The model that a stage begins with: what another stage made, or a checkpoint as it lies in its directory.

use std::path::{Path, PathBuf};

use anyhow::{Result, ensure};
use fs_err as fs;

use super::TOKENIZER;
use crate::{
    data::text::Tokenizer,
    engine::executor::Job,
    network::checkpoint::{self, CONFIG},
};

/// A model that exists, and its tokenizer.
pub(super) struct Origin {
    /// The directory with `config.json` and the weights.
    pub model: PathBuf,
    /// The tokenizer's file, or the directory that it lies in.
    pub tokenizer: PathBuf,
    /// Whether texts are spelt in bytes, as there is no tokenizer and the recipe says so.
    bytes: bool,
}

impl Origin {
    /// What `field` of the stage's spec names: a stage, or a checkpoint.
    pub(super) fn of(job: &Job<'_>, field: &str) -> Option<Self> {
        if let Some(artifact) = job.inputs.get(field) {
            return Some(Self { model: artifact.path.clone(), tokenizer: artifact.path.clone(), bytes: false });
        }
        let place = |name: &str| job.files.get(&format!("{field}.{name}"))?.first().cloned();
        let model = place("checkpoint")?;
        let tokenizer = place("tokenizer").unwrap_or_else(|| model.clone());
        let falls_back = super::of(job.node).is_ok_and(|stage| stage.falls_back_on_bytes());
        let bytes = falls_back && checkpoint::tokenizer(&tokenizer).is_empty();
        Some(Self { model, tokenizer, bytes })
    }

    /// Whether it has a tokenizer.
    pub(super) fn has_tokenizer(&self) -> bool {
        self.bytes || !checkpoint::tokenizer(&self.tokenizer).is_empty()
    }

    /// Loads its tokenizer.
    pub(super) fn load_tokenizer(&self) -> Result<Tokenizer> {
        if self.bytes {
            return Tokenizer::bytes(&self.model.join(CONFIG));
        }
        ensure!(
            self.has_tokenizer(),
            "{} has no tokenizer\nhint: name one beside the checkpoint, under `tokenizer`",
            self.tokenizer.display()
        );
        Tokenizer::load(&self.tokenizer)
    }

    /// Copies its tokenizer's files into a directory, as they are.
    pub(super) fn copy_tokenizer(&self, to: &Path) -> Result<()> {
        if self.bytes {
            return self.load_tokenizer()?.save(&to.join(TOKENIZER));
        }
        copy_tokenizer(&self.tokenizer, to)
    }
}

/// Copies the files of the tokenizer at `from`, a file or a directory. A file gets the name that it's known by.
pub(super) fn copy_tokenizer(from: &Path, to: &Path) -> Result<()> {
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
