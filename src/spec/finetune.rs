//! The `finetune` stage.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{
    Adapter, Classification, DevMetric, Expectations, Instruction, Model, MultiLabel, Origin, Outputs, Regression,
    Source, Teacher, Train,
};

/// Adapts a model to labelled rows, or to instructions with their answers.
#[derive(Clone, Debug, Deserialize, JsonSchema, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Finetune {
    /// Start from the model of this stage, or from a checkpoint; either this, or `tokens` and `model`
    #[serde(default)]
    pub from: Option<Origin>,
    /// The tokenize stage whose tokenizer a new model uses
    #[serde(default)]
    #[schemars(extend("x-role" = "stage:tokenizer"))]
    pub tokens: Option<String>,
    /// Start from a new model
    #[serde(default)]
    #[schemars(extend("x-recorded" = "a model's sizes stand in its config.json"))]
    pub model: Option<Model>,
    /// Train this adapter, with the weights of the model of `from` frozen
    #[serde(default)]
    pub adapter: Option<Adapter>,
    /// The rows: for training, and for evaluation meanwhile
    pub data: FinetuneData,
    /// The task
    #[schemars(extend("x-recorded" = "a task is stored with its model"))]
    pub task: Task,
    /// For a classifier: a linear classifier on the rows' n-grams beside the network, the wide path of Cheng et al. 2016
    #[serde(default)]
    pub wide: Option<Wide>,
    /// For a classifier: others that it learns from, too
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub teacher: Option<Teacher>,
    /// How to train
    #[schemars(extend("x-recorded" = "how a model was trained shows in its curve and metrics"))]
    pub train: Train,
    /// What its metrics have to be, by their names; a run in which one isn't ends with status 3
    #[serde(default)]
    #[schemars(extend("x-role" = "free"))]
    pub expect: Option<Expectations>,
}

/// A wide path: to the logarithms of the probabilities that the network gives the labels, those of a linear classifier are
/// added. What each counts for is chosen on the dev rows; without such rows both count the same.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Wide {
    /// The linear stage; by default one of the same rows, which an eval of the model shows beside it, too
    #[serde(default)]
    #[schemars(extend("x-role" = "stage:baseline"))]
    pub baseline: Option<String>,
}

/// Training rows, and dev rows to evaluate on meanwhile.
#[derive(Clone, Debug, Deserialize, JsonSchema, Serialize)]
#[serde(deny_unknown_fields)]
pub struct FinetuneData {
    /// The training rows
    pub train: Source,
    /// Rows for evaluation during training, early stopping and keeping the best
    #[serde(default)]
    pub dev: Option<Source>,
}

/// The task of a finetune stage.
#[derive(Clone, Debug, Deserialize, JsonSchema, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Task {
    /// One label out of a closed set
    Classification(Classification),
    /// Answers to instructions
    Instruction(Instruction),
    /// Any number of labels out of a closed set
    MultiLabel(MultiLabel),
    /// A number
    Regression(Regression),
}

impl Task {
    /// The metrics on dev rows.
    pub fn dev_metrics(&self) -> &'static [DevMetric] {
        const CLASSIFICATION: &[DevMetric] = &[DevMetric::ACCURACY, DevMetric::MACRO_F1, DevMetric::LOSS];
        const INSTRUCTION: &[DevMetric] = &[DevMetric::LOSS, DevMetric::PERPLEXITY, DevMetric::ACCURACY];
        const MULTI_LABEL: &[DevMetric] = &[DevMetric::MICRO_F1, DevMetric::MACRO_F1, DevMetric::LOSS];
        const REGRESSION: &[DevMetric] =
            &[DevMetric::PEARSON, DevMetric::SPEARMAN, DevMetric::MEAN_ABSOLUTE_ERROR, DevMetric::LOSS];
        match self {
            Self::Classification(_) => CLASSIFICATION,
            Self::Instruction(_) => INSTRUCTION,
            Self::MultiLabel(_) => MULTI_LABEL,
            Self::Regression(_) => REGRESSION,
        }
    }

    /// The task, if its answers are the outputs of a linear head, each by itself.
    pub fn outputs(&self) -> Option<Outputs> {
        match self {
            Self::MultiLabel(task) => Some(Outputs::MultiLabel(task.clone())),
            Self::Regression(task) => Some(Outputs::Regression(task.clone())),
            Self::Classification(_) | Self::Instruction(_) => None,
        }
    }
}
