//! The `pretrain` stage.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Adapter, Expectations, Model, Objective, Origin, Train};

/// Trains a language model on the corpora that a tokenize stage encoded.
#[derive(Clone, Debug, Deserialize, JsonSchema, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Pretrain {
    /// The tokenize stage whose corpora to train on
    #[schemars(extend("x-role" = "stage:tokens"))]
    pub tokens: String,
    /// Start from the model of this stage, or from a checkpoint; either this or `model`
    #[serde(default)]
    pub from: Option<Origin>,
    /// Start from a new model; either this or `from`
    #[serde(default)]
    #[schemars(extend("x-recorded" = "a model's sizes stand in its config.json"))]
    pub model: Option<Model>,
    /// Train this, and leave the model of `from` as it is
    #[serde(default)]
    pub adapter: Option<Adapter>,
    /// The mix of objectives
    #[schemars(length(min = 1), extend("x-recorded" = "objectives are stored with their model"))]
    pub objectives: Vec<Objective>,
    /// How to train
    #[schemars(extend("x-recorded" = "how a model was trained shows in its curve and metrics"))]
    pub train: Train,
    /// What its metrics have to be, by their names; a run in which one isn't ends with status 3
    #[serde(default)]
    #[schemars(extend("x-role" = "free"))]
    pub expect: Option<Expectations>,
}
