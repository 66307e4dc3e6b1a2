//! What a model was trained for: kept beside its weights, so that it can be used without its recipe.

use std::path::Path;

use anyhow::{Context, Result};
use fs_err as fs;
use serde::{Deserialize, Serialize};

use crate::{
    learning::objectives::parts::assumed,
    network::model::{CheckpointSummary, Network},
    spec::{Classification, Instruction, Objective},
};

/// The file's name in the artifacts of pretrain and finetune stages.
const TASK: &str = "task.json";

/// The longest sequence that a checkpoint is measured with; some could take far more, at great cost.
const LONGEST: usize = 2048;

/// What a model was trained for.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub(in crate::stages) struct TrainedFor {
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

impl TrainedFor {
    /// Writes `task.json`.
    pub(in crate::stages) fn write(&self, dir: &Path) -> Result<()> {
        Ok(fs::write(dir.join(TASK), serde_json::to_vec_pretty(self)?)?)
    }

    /// Whether there's a `task.json`: only models of our own have one.
    pub(in crate::stages) fn is_in(dir: &Path) -> bool {
        dir.join(TASK).exists()
    }

    /// Reads what [`Self::write`] wrote. A checkpoint from elsewhere doesn't say what it was trained for: it's taken to know
    /// what its family learns.
    pub(in crate::stages) fn read(dir: &Path) -> Result<Self> {
        let path = dir.join(TASK);
        if !path.exists() {
            return Self::of_checkpoint(dir);
        }
        serde_json::from_slice(&fs::read(&path)?).with_context(|| format!("failed to read {}", path.display()))
    }

    fn of_checkpoint(dir: &Path) -> Result<Self> {
        let CheckpointSummary { family, max_length, .. } = Network::inspect(dir)?;
        let objectives = assumed(family)?;
        Ok(Self { objectives, classification: None, instruction: None, max_length: max_length.min(LONGEST) })
    }
}
