//! The `import` stage.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::Expectations;

/// Imports a checkpoint into the store: checked, and with the same numbers. Weights are stored as safetensors.
#[derive(Clone, Debug, Deserialize, JsonSchema, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Import {
    /// The directory: config.json, weights as safetensors or as PyTorch writes them, and usually a tokenizer
    #[schemars(extend("x-role" = "checkpoint"))]
    pub path: String,
    /// Take this tokenizer, a file or a directory, instead of the one beside the weights
    #[serde(default)]
    #[schemars(extend("x-role" = "tokenizer"))]
    pub tokenizer: Option<String>,
    /// What its metrics have to be, by their names; a run in which one isn't ends with status 3
    #[serde(default)]
    #[schemars(extend("x-role" = "free"))]
    pub expect: Option<Expectations>,
}
