//! By how much a stage's code is newer for what it takes over from a checkpoint: stages that take over nothing, or that
//! say themselves what they'd take over, keep their versions.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    sync::Arc,
};

use anyhow::{Context, Result};
use fs_err as fs;
use serde_json::Value;

use super::tokenizers::{self, TokenizerSource, Tokenizers};
use crate::{
    data::text::Tokenizer,
    network::checkpoint::{self, CONFIG},
    recipe::{Chains, Checked, Step, paths::resolve_place},
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
    /// The same of the stages of one recipe.
    pub fn by_stages_of<'a>(&'a mut self, checked: &'a Checked) -> TakenOverByStages<'a> {
        TakenOverByStages { checked, directories: self, origins: Chains::default(), tokenizers: Chains::default() }
    }
}

/// Finds what the stages of a recipe take over.
#[derive(Debug)]
pub struct TakenOverByStages<'a> {
    checked: &'a Checked,
    directories: &'a mut TakenOver,
    /// The directories of the checkpoints that stages begin with.
    origins: Chains<PathBuf>,
    tokenizers: Tokenizers,
}

impl TakenOverByStages<'_> {
    /// What is added to the version of a stage, which says this of itself.
    ///
    /// # Errors
    /// Stages of a kind that isn't known, or with other settings.
    pub fn revision(&mut self, name: &str, facts: &Facts) -> Result<u32> {
        let checked = self.checked;
        let Some(stage) = checked.recipe.stages.get(name) else { return Ok(0) };
        let Facts { training, base_model, .. } = facts;
        let mut revision = 0;
        if let (Some(training), Some(base)) = (training, base_model) {
            // The second keeps what the checkpoint says of how it writes.
            let keeps = training.heads.classifier.is_none() && has_settings(checked, base)?;
            revision += u32::from(keeps);
        }
        if let (Some(training), Some(directory)) = (training, self.origin(name)?) {
            // The second takes the dropout of the checkpoint's config.
            revision += u32::from(training.train.dropout.is_none());
            // The second ends Marian's sources as its tokenizer does.
            let marian = self.directories.marian.entry(directory.to_path_buf());
            revision += u32::from(*marian.or_insert_with_key(|directory| is_marian(directory)));
        }
        let encodes = training.is_some() || stage.settings_as::<Tokenize>().is_ok();
        let source = encodes.then(|| tokenizers::source(&mut self.tokenizers, checked, name)).flatten();
        if let Some(TokenizerSource::Existing(place)) = source.as_deref() {
            // The second reads tokenizer_config.json beside tokenizer.json.
            let retold = self.directories.retold.entry(place.clone());
            revision += u32::from(*retold.or_insert_with_key(|place| Tokenizer::is_retold(place)));
        }
        Ok(revision)
    }

    /// The directory of the checkpoint that a stage begins with, through all stages that it continues.
    fn origin(&mut self, name: &str) -> Result<Option<Arc<PathBuf>>> {
        let checked = self.checked;
        self.origins.beginning(name, |name| {
            let Some(stage) = checked.recipe.stages.get(name) else { return Ok(Step::Nowhere) };
            Ok(match kind_named(&stage.kind)?.facts(&stage.settings)?.base_model {
                Some(BaseModel::Stage { name: before, .. }) => Step::With(before),
                Some(BaseModel::Checkpoint { directory, .. }) => {
                    resolve_place(&directory, &checked.dir).map_or(Step::Nowhere, Step::Here)
                }
                Some(BaseModel::New { .. }) | None => Step::Nowhere,
            })
        })
    }
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
