//! What a model was made for: kept beside its weights, so that it can be used without its recipe.

use std::path::Path;

use anyhow::{Context, Result};
use fs_err as fs;
use serde::{Deserialize, Serialize};

use crate::{
    model::Network,
    recipe::{
        families::Family,
        spec::{Classification, Instruction, Objective},
    },
};

/// The file's name in the artifacts of pretrain and finetune stages.
const TASK: &str = "task.json";

/// What a model was trained for.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub(super) struct Purpose {
    /// The objectives of its pretraining, those of the stages before it first.
    pub objectives: Vec<Objective>,
    /// The labels that it was finetuned to tell.
    pub classification: Option<Classification>,
    /// The instructions that it was finetuned on, with the chat format that was used.
    #[serde(default)]
    pub instruction: Option<Instruction>,
    /// The longest sequence that it was trained on.
    pub max_length: usize,
}

impl Purpose {
    /// Writes `task.json`.
    pub(super) fn write(&self, dir: &Path) -> Result<()> {
        Ok(fs::write(dir.join(TASK), serde_json::to_vec_pretty(self)?)?)
    }

    /// Reads what [`Self::write`] wrote.
    pub(super) fn read(dir: &Path) -> Result<Self> {
        let path = dir.join(TASK);
        serde_json::from_slice(&fs::read(&path)?).with_context(|| format!("failed to read {}", path.display()))
    }
}

/// What a model can do by its family.
pub(super) fn abilities(network: &Network) -> Result<&'static Family> {
    let name = network.family().name();
    Family::named(name).with_context(|| format!("what {name} models can do isn't known"))
}
