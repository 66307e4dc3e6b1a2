//! What trackers are given: the run that they track, and access to stored curves.

use std::{path::PathBuf, sync::Arc};

use anyhow::Result;
use indexmap::IndexMap;
use serde_json::Value;

use crate::{
    engine::{
        executor::{Outcome, StepMetrics},
        remote::{self, Remote},
        store::{Artifact, Provenance},
    },
    learning::train::Curve,
    session::sweep::Results,
    stages::step_metrics,
};

/// Shows a message to the user.
pub type Notify = Arc<dyn Fn(&str) + Send + Sync>;

/// What is tracked.
#[derive(Clone, Debug)]
pub struct Subject {
    /// The recipe's file.
    pub recipe: PathBuf,
    /// What is recorded with all artifacts of the run.
    pub provenance: Provenance,
    /// Settings of the whole, by dotted path, without secrets.
    pub settings: Vec<(String, Value)>,
}

impl Subject {
    /// The recipe's name.
    pub(super) fn name(&self) -> String {
        self.recipe.file_stem().unwrap_or_default().to_string_lossy().into_owned()
    }
}

/// Where event files go.
#[derive(Clone, Debug)]
pub enum EventFiles {
    /// There are none.
    Nowhere,
    /// The default place.
    InStore(PathBuf),
    /// Requested by the user.
    In(PathBuf),
}

/// How it ended.
pub struct RunEnd<'a> {
    /// The stages.
    pub outcomes: &'a IndexMap<String, Outcome>,
    /// A sweep's cells.
    pub results: Option<&'a Results>,
    /// The dotted path of the metric that a sweep is about.
    pub aim: Option<&'a str>,
    /// Makes the recipe's report, where it's wanted.
    pub report: &'a dyn Fn() -> Result<String>,
}

/// Where the curves of finished trainings are.
#[derive(Clone)]
pub(super) struct Curves {
    pub(super) remote: Option<Arc<Remote>>,
}

impl Curves {
    /// All metrics that a training has reported; nothing for a stage of another kind, or if its file can't be had.
    pub(super) fn of(&self, artifact: &Artifact) -> Vec<StepMetrics> {
        let text = remote::small_file(artifact, Curve::FILE, self.remote.as_deref()).unwrap_or_default();
        let made = &artifact.provenance;
        step_metrics(&Curve::parse(&String::from_utf8_lossy(&text)), &made.throughput, made.started)
    }
}
