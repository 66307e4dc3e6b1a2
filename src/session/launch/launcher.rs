//! What a way to launch stages is, and what it's given.

use std::path::PathBuf;

use anyhow::Result;
use serde::{Deserialize, Serialize};

use crate::{
    engine::{
        executor::{Launch, Task},
        store::Store,
    },
    stages::Stages,
    support::Named,
};

/// The name of the default way to compute stages: in this process, except what a GPU computes.
pub const FITTING: &str = "fitting";

/// A way to have stages computed.
pub trait Launcher: Named + Sync {
    /// Makes ready for the stages of a run.
    fn prepare<'a>(&self, setup: Setup<'a>) -> Box<dyn Launch + 'a>;
}

/// What a run has for its stages.
#[derive(Clone, Copy)]
pub struct Setup<'a> {
    /// Where artifacts are.
    pub store: &'a Store,
    /// What computes stages, in this process and on the run's devices.
    pub stages: &'a Stages,
}

impl Setup<'_> {
    /// What another process needs to compute a stage.
    ///
    /// # Errors
    /// If the store's path can't be determined.
    pub fn job(&self, task: &Task) -> Result<StageJob> {
        let store = std::path::absolute(self.store.root())?;
        let devices = self.stages.choices().to_string();
        Ok(StageJob { task: task.clone(), store, devices })
    }
}

/// All that it takes to compute a stage elsewhere. It may hold secrets, which a stage's settings may: it's handed over, and
/// never stored.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct StageJob {
    /// The stage, what it's computed from, and how far.
    pub task: Task,
    /// The store's directory.
    pub store: PathBuf,
    /// The devices to compute it on, as `--devices` takes them.
    pub devices: String,
}
