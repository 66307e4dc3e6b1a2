//! The `eval` stage.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::Source;

/// Evaluates a model on held-out data: a finetuned model on rows, or a language model on encoded corpora.
#[derive(Clone, Debug, Deserialize, JsonSchema, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Eval {
    /// The stage whose model is evaluated
    #[schemars(extend("x-role" = "stage:model"))]
    pub model: String,
    /// Rows like those that a finetuned model learned from
    #[serde(default)]
    pub data: Option<Source>,
    /// The tokenize stage with the held-out corpora, for a language model
    #[serde(default)]
    #[schemars(extend("x-role" = "stage:tokens"))]
    pub tokens: Option<String>,
}
