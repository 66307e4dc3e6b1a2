//! What the worker is sent about the stages of a run.

use serde_json::Value;

use super::{api::Pair, values};
use crate::{
    engine::{plan::Node, store::Artifact},
    stages::{DeviceUse, kind_named},
};

/// A message to the worker.
pub(super) enum Message {
    /// A stage is being computed since this time.
    Begin(StageInfo, f64),
    /// Metrics of a stage that is.
    Metrics { stage: String, metrics: Vec<Value> },
    /// It's done, or not: the server's word for it.
    End { stage: String, status: &'static str, at: f64, artifact: Option<Box<Artifact>> },
    /// A stage was computed at another time.
    Stored(StageInfo, Box<Artifact>),
}

/// MLflow's words for how a run ended.
pub(super) const FINISHED: &str = "FINISHED";
pub(super) const FAILED: &str = "FAILED";
pub(super) const KILLED: &str = "KILLED";

/// A stage that has a run of its own.
pub(super) struct StageInfo {
    /// Its id among those of this run of the recipe.
    pub(super) stage: String,
    /// Its name in the recipe.
    pub(super) name: String,
    pub(super) kind: String,
    pub(super) key: String,
    pub(super) params: Vec<Pair>,
}

impl StageInfo {
    /// A stage's, if it's one that has a run of its own.
    pub(super) fn new(stage: &str, node: &Node, key: &str) -> Option<Self> {
        has_runs(&node.kind).then(|| Self {
            stage: stage.to_owned(),
            name: node.name.clone(),
            kind: node.kind.clone(),
            key: key.to_owned(),
            params: values::flat("", &node.described),
        })
    }
}

/// Whether stages of a kind have runs of their own: those that compute something with tensors, so train or measure.
pub(super) fn has_runs(kind: &str) -> bool {
    kind_named(kind).is_ok_and(|kind| kind.devices() != DeviceUse::None)
}
