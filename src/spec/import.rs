//! The `import` stage.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Expectations, WeightForm, origin};

/// Imports a checkpoint into the store: checked, and with the same numbers unless its weights are to have another form. Weights
/// are stored as safetensors.
#[derive(Clone, Debug, Deserialize, JsonSchema, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Import {
    /// The directory: config.json, weights as safetensors or as PyTorch writes them, and usually a tokenizer
    #[serde(default)]
    #[schemars(extend("x-role" = "checkpoint"))]
    pub path: Option<String>,
    /// The model's name on Hugging Face instead, such as THUDM/chatglm-6b, or with `modelscope:` before it on ModelScope
    #[serde(default)]
    #[schemars(extend("x-role" = "hub:path"))]
    pub hub: Option<String>,
    /// Which revision of it: a branch, a tag or a commit [default: main, and master on ModelScope]
    #[serde(default)]
    #[schemars(extend("x-role" = "revision"))]
    pub revision: Option<String>,
    /// Take this tokenizer, a file or a directory, instead of the one beside the weights
    #[serde(default)]
    #[schemars(extend("x-role" = "tokenizer"))]
    pub tokenizer: Option<String>,
    /// Store the weights in this form, for commands that load the model and eval; as they are where nothing is said. Such files
    /// are for this program
    #[serde(default)]
    pub weights: Option<WeightForm>,
    /// What its metrics have to be, by their names; a run in which one isn't ends with status 3
    #[serde(default)]
    #[schemars(extend("x-role" = "free"))]
    pub expect: Option<Expectations>,
}

impl Import {
    /// Where the checkpoint is: a directory, or what stands for a model on a hub.
    pub fn place(&self) -> String {
        origin::place(self.path.as_deref(), self.hub.as_deref(), self.revision.as_deref())
    }
}
