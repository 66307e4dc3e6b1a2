//! By how much a stage's code is newer for what it takes over from a checkpoint: stages that take over nothing, or that
//! say themselves what they'd take over, keep their versions.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result};
use fs_err as fs;
use serde_json::Value;

use super::tokenizers::{self, TokenizerSource};
use crate::{
    data::text::Tokenizer,
    network::checkpoint::{self, CONFIG},
    recipe::{Checked, paths::resolve_place},
    spec::Tokenize,
    stages::{BaseModel, Facts, kind_named},
};

/// Finds what stages take over; a directory that several share, of a recipe or of all cells of a sweep, is looked at once.
#[derive(Debug, Default)]
pub struct TakenOver {
    /// Whether a directory has a Marian model.
    marian: BTreeMap<PathBuf, bool>,
    /// Whether a directory's tokenizer is told otherwise than its tokenizer.json has it.
    retold: BTreeMap<PathBuf, bool>,
}

impl TakenOver {
    /// What is added to the version of a stage.
    ///
    /// # Errors
    /// Stages of a kind that isn't known, or with other settings.
    pub fn revision(&mut self, checked: &Checked, name: &str) -> Result<u32> {
        let Some(stage) = checked.recipe.stages.get(name) else { return Ok(0) };
        let Facts { training, base_model, .. } = kind_named(&stage.kind)?.facts(&stage.settings)?;
        let mut revision = 0;
        if let (Some(training), Some(base)) = (&training, &base_model) {
            // The second keeps what the checkpoint says of how it writes.
            let keeps = training.heads.classifier.is_none() && has_settings(checked, base)?;
            revision += u32::from(keeps);
        }
        if let (Some(training), Some(directory)) = (&training, origin(checked, name)?) {
            // The second takes the dropout of the checkpoint's config.
            revision += u32::from(training.train.dropout.is_none());
            // The second ends Marian's sources as its tokenizer does.
            revision += u32::from(*self.marian.entry(directory).or_insert_with_key(|directory| is_marian(directory)));
        }
        let encodes = training.is_some() || stage.settings_as::<Tokenize>().is_ok();
        if encodes && let Some(TokenizerSource::Existing(place)) = tokenizers::source(checked, name) {
            // The second reads tokenizer_config.json beside tokenizer.json.
            let retold = self.retold.entry(place).or_insert_with_key(|place| Tokenizer::is_retold(place));
            revision += u32::from(*retold);
        }
        Ok(revision)
    }
}

/// The directory of the checkpoint that a stage begins with, through all stages that it continues.
fn origin(checked: &Checked, name: &str) -> Result<Option<PathBuf>> {
    let mut name = name.to_owned();
    // A cycle of references ends after as many steps as there are stages.
    for _ in 0..checked.recipe.stages.len() {
        let Some(stage) = checked.recipe.stages.get(&name) else { return Ok(None) };
        match kind_named(&stage.kind)?.facts(&stage.settings)?.base_model {
            Some(BaseModel::Stage { name: before, .. }) => name = before,
            Some(BaseModel::Checkpoint { directory, .. }) => return Ok(resolve_place(&directory, &checked.dir)),
            Some(BaseModel::New { .. }) | None => return Ok(None),
        }
    }
    Ok(None)
}

/// Whether a model is one of others, taken as it is, that says how it writes.
fn has_settings(checked: &Checked, base: &BaseModel) -> Result<bool> {
    match base {
        BaseModel::New { .. } => Ok(false),
        BaseModel::Checkpoint { directory, .. } => {
            let place = resolve_place(directory, &checked.dir);
            Ok(place.is_some_and(|place| !checkpoint::settings(&place).is_empty()))
        }
        BaseModel::Stage { name, .. } => {
            let stage = checked.recipe.stages.get(name).with_context(|| format!("there is no stage `{name}`"))?;
            let facts = kind_named(&stage.kind)?.facts(&stage.settings)?;
            match facts {
                Facts { training: None, base_model: Some(base), .. } => has_settings(checked, &base),
                _ => Ok(false),
            }
        }
    }
}

fn is_marian(directory: &Path) -> bool {
    let config = fs::read(checkpoint::base(directory).join(CONFIG)).ok();
    let config: Option<Value> = config.and_then(|config| serde_json::from_slice(&config).ok());
    config.is_some_and(|config| config["model_type"] == "marian")
}
