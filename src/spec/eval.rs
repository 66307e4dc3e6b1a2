//! The `eval` stage.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Expectations, Source, WeightForm, origin::ModelName};

/// Evaluates a model on held-out data: a finetuned model on rows, or a language model on encoded corpora.
#[derive(Clone, Debug, Deserialize, JsonSchema, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Eval {
    /// The stage whose model is evaluated
    #[schemars(extend("x-role" = "stage:model"))]
    pub model: String,
    /// For a classifier: further stages whose classifiers tell the same labels. What is measured is the mean of the logarithms
    /// of the probabilities that all of them give, this model's among them
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(with = "Vec<ModelName>")]
    pub ensemble: Vec<String>,
    /// Rows like those that a finetuned model learned from
    #[serde(default)]
    pub data: Option<Source>,
    /// The tokenize stage with the held-out corpora, for a language model
    #[serde(default)]
    #[schemars(extend("x-role" = "stage:tokens"))]
    pub tokens: Option<String>,
    /// For a language model that predicts each token from those before it: by how many tokens the windows of a document
    /// move on, of each of which only the tokens that are new in it are judged. By default half of the longest sequence,
    /// so that but for a document's beginning no token is judged with less than half a window before it. With 0, windows
    /// don't overlap and are made of whole sentences, as in training, and each begins without context
    #[serde(default)]
    #[schemars(extend("x-unsaid" = [null, 0]))]
    pub stride: Option<usize>,
    /// For a classifier: the linear stage to show beside it. By default one is made of the rows that the model of a finetune
    /// stage learned from, its dev rows and its labels, once for all evals of such models
    #[serde(default)]
    #[schemars(extend("x-role" = "stage:baseline"))]
    pub baseline: Option<String>,
    /// What the model's weights are held as; as they are stored where nothing is said
    #[serde(default)]
    pub weights: Option<WeightForm>,
    /// What its metrics have to be, by their names; a run in which one isn't ends with status 3
    #[serde(default)]
    #[schemars(extend("x-role" = "free"))]
    pub expect: Option<Expectations>,
}
