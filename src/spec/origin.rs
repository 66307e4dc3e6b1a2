//! Models that exist: another stage's, or a checkpoint's.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::hub::model_place;

/// Where a model comes from: the name of a stage, or a checkpoint.
#[derive(Clone, Debug, Deserialize, JsonSchema, Serialize)]
#[serde(untagged)]
pub enum Origin {
    /// The model of this stage
    Stage(#[schemars(extend("x-role" = "stage:model"))] String),
    /// The model in a directory
    Checkpoint(Checkpoint),
}

impl Origin {
    /// Whether texts are to be spelt in bytes if the checkpoint has no tokenizer.
    pub fn falls_back_on_bytes(&self) -> bool {
        matches!(self, Self::Checkpoint(from) if from.without_tokenizer == WithoutTokenizer::Bytes)
    }

    /// The name of the stage, where it is one.
    pub fn stage(&self) -> Option<&str> {
        match self {
            Self::Stage(name) => Some(name),
            Self::Checkpoint(_) => None,
        }
    }
}

/// A model in Hugging Face's layout, as it lies in a directory or on a hub.
#[derive(Clone, Debug, Deserialize, JsonSchema, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Checkpoint {
    /// The directory: config.json, weights as safetensors or as PyTorch writes them, and usually a tokenizer
    #[serde(default)]
    #[schemars(extend("x-role" = "checkpoint"))]
    pub checkpoint: Option<String>,
    /// The model's name on Hugging Face instead, such as THUDM/chatglm-6b, or with `modelscope:` before it on ModelScope
    #[serde(default)]
    #[schemars(extend("x-role" = "hub:checkpoint"))]
    pub hub: Option<String>,
    /// Which revision of it: a branch, a tag or a commit [default: main, and master on ModelScope]
    #[serde(default)]
    #[schemars(extend("x-role" = "revision"))]
    pub revision: Option<String>,
    /// Take this tokenizer, a file or a directory, instead of the one beside the weights
    #[serde(default)]
    #[schemars(extend("x-role" = "tokenizer"))]
    pub tokenizer: Option<String>,
    /// What to do where there is no tokenizer
    #[serde(default)]
    pub without_tokenizer: WithoutTokenizer,
}

impl Checkpoint {
    /// Where it is: a directory, or what stands for a model on a hub.
    pub fn place(&self) -> String {
        place(self.checkpoint.as_deref(), self.hub.as_deref(), self.revision.as_deref())
    }
}

/// Where a model is, of which one of the two is named.
pub(super) fn place(directory: Option<&str>, hub: Option<&str>, revision: Option<&str>) -> String {
    let on_hub = hub.map(|hub| model_place(hub, revision));
    on_hub.or_else(|| directory.map(str::to_owned)).unwrap_or_default()
}

/// What to do about a checkpoint that has no tokenizer.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum WithoutTokenizer {
    /// Nothing runs
    #[default]
    Refuse,
    /// A token is a byte of the text: for trying a recipe with a tiny checkpoint
    Bytes,
}

/// The name of a stage that makes a model.
#[derive(JsonSchema)]
#[schemars(inline, extend("x-role" = "stage:model"))]
#[expect(dead_code, reason = "it's there for its schema")]
pub(super) struct ModelName(String);

/// The name of a linear stage.
#[derive(JsonSchema)]
#[schemars(inline, extend("x-role" = "stage:baseline"))]
#[expect(dead_code, reason = "it's there for its schema")]
pub(super) struct BaselineName(String);
