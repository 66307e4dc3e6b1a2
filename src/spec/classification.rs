//! The task of a classifier.

use indexmap::IndexMap;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::ClassWeights;

/// Classification by prompt, or by a linear head.
#[derive(Clone, Debug, Deserialize, JsonSchema, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Classification {
    /// The column that holds the label
    #[serde(default = "label")]
    pub label: String,
    /// For each label as it stands in the data, the word that the model answers with
    #[schemars(extend("minProperties" = 2))]
    pub words: IndexMap<String, String>,
    /// The prompt: a minijinja template over the row's columns, with the marker `[Classification]` where the answer goes.
    /// Special tokens are `{{ cls }}`, `{{ sep }}`, `{{ mask }}`, `{{ gmask }}`, `{{ smask }}`, `{{ sop }}` and `{{ eop }}`,
    /// and `{{ token("<|user|>") }}` is any entry of the tokenizer's vocabulary; spelt as `[SEP]` they're text. What
    /// stands behind the first `{{ sep }}` is a second segment, for families that tell segments apart
    #[schemars(extend("x-role" = "template"))]
    pub template: String,
    /// How the answer is read from the model
    #[serde(default)]
    pub head: Head,
    /// What a linear head reads; by default what the family's class for sequence classification in transformers reads: BERT's
    /// the first token, GPT-2's and GLM-4's the last; in families without such a class the mean
    #[serde(default)]
    #[schemars(extend("x-unsaid" = [null, "mean"]))]
    pub pooling: Option<Pooling>,
    /// What the rows of each label weigh in the loss: `balanced`, so that all labels together weigh the same however many rows
    /// they have, or a number for each label
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub class_weights: Option<ClassWeights>,
    /// Focal loss: each row's loss times the power of this of the probability that the model gives to other labels, so
    /// that rows it's sure of count for less; 2 is usual
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0.0, max = 10.0))]
    pub focal_gamma: Option<f64>,
}

impl Classification {
    /// The labels in the order of the classes, which is that of their names whatever order a recipe has.
    pub fn labels(&self) -> Vec<String> {
        let mut labels: Vec<String> = self.words.keys().cloned().collect();
        labels.sort();
        labels
    }

    /// Whether it's asked by a linear head such as a family's own class has.
    pub fn reads_own_head(&self) -> bool {
        self.head == Head::Linear && self.pooling != Some(Pooling::Mean)
    }
}

fn label() -> String {
    "label".into()
}

/// How a label is read from the model.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Head {
    /// The language model scores the label words in the place of the marker
    #[default]
    Prompt,
    /// A new linear layer on the pooled hidden states; the marker may be left out
    Linear,
}

/// What a linear head reads.
#[derive(Clone, Copy, Debug, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Pooling {
    /// The mean over the text
    Mean,
    /// The first token, `[CLS]`, through BERT's pooler and dropout
    First,
    /// The last token, without a bias
    Last,
}
