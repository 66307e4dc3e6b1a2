//! The `linear` stage.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Expectations, FinetuneData};

/// Trains a linear classifier on the n-grams of labelled rows: what evaluations show beside a model. An `eval` of a
/// classifier has one of the model's own rows by itself, without a stage for it in the recipe.
#[derive(Clone, Debug, Deserialize, JsonSchema, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Linear {
    /// The rows: for training, and dev rows to choose the best kind of classifier by; without these a tenth of the training
    /// rows is held back for that
    pub data: FinetuneData,
    /// The column that holds the label
    #[serde(default = "label")]
    pub label: String,
    /// The columns with the text
    #[schemars(extend("minItems" = 1))]
    pub columns: Vec<String>,
    /// The labels, as they stand in the data
    #[schemars(extend("minItems" = 2))]
    pub labels: Vec<String>,
    /// What its metrics have to be, by their names; a run in which one isn't ends with status 3
    #[serde(default)]
    #[schemars(extend("x-role" = "free"))]
    pub expect: Option<Expectations>,
}

fn label() -> String {
    "label".into()
}
