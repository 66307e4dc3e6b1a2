//! The `train` section of training stages.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{DevMetric, open::open_place};

/// How a model is trained: length, batches, optimizer, schedule and cadence.
#[derive(Clone, Debug, Deserialize, JsonSchema, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Train {
    /// Optimizer steps; either this or `epochs`
    #[serde(default)]
    #[schemars(range(min = 1))]
    pub steps: Option<usize>,
    /// Passes over the data; either this or `steps`
    #[serde(default)]
    #[schemars(range(min = 0.001))]
    pub epochs: Option<f64>,
    /// What one step sees
    #[serde(default)]
    pub batch: Batch,
    /// Batches whose gradients are added up for one step
    #[serde(default = "one_batch")]
    #[schemars(range(min = 1))]
    pub accumulate: usize,
    /// How much of a batch is computed at a time; changes the memory and time of training, not its results
    #[serde(default)]
    #[schemars(extend("x-role" = "free"))]
    pub micro_batch: MicroBatch,
    /// Keep only the inputs of each layer, and compute its activations again in the backward pass: takes less memory and
    /// more time, and learns the same
    #[serde(default)]
    #[schemars(extend("x-role" = "free"))]
    pub gradient_checkpointing: bool,
    /// What a step's loss is the mean of, where `accumulate` adds several batches up
    #[serde(default)]
    pub loss_normalization: LossNormalization,
    /// The longest sequence, in tokens; longer texts are cut
    #[serde(default = "max_length")]
    #[schemars(range(min = 8))]
    pub max_length: usize,
    /// Put several short sequences into one row, so that padding is not computed
    #[serde(default = "yes")]
    pub packing: bool,
    /// The dtype of matrix products and activations
    #[serde(default)]
    pub precision: Precision,
    /// The highest learning rate
    #[schemars(range(min = 0.0))]
    pub lr: f64,
    /// The schedule of the learning rate after the warm-up
    #[serde(default)]
    pub schedule: Schedule,
    /// Steps of linear warm-up; either this or `warmup_ratio`
    #[serde(default)]
    pub warmup_steps: Option<usize>,
    /// Share of the steps that is warm-up
    #[serde(default)]
    #[schemars(range(min = 0.0, max = 1.0))]
    pub warmup_ratio: Option<f64>,
    /// Where linear and cosine schedules end, as a share of `lr`
    #[serde(default)]
    #[schemars(range(min = 0.0, max = 1.0))]
    pub min_lr_ratio: f64,
    /// What makes steps out of gradients; by default AdamW with the settings beside it, which can't be given together with
    /// this
    #[serde(default)]
    pub optimizer: Option<Optimizer>,
    /// AdamW's decoupled weight decay; not applied to biases and norms
    #[serde(default = "weight_decay")]
    #[schemars(range(min = 0.0))]
    pub weight_decay: f64,
    /// AdamW's decay of the first moment
    #[serde(default = "beta1")]
    #[schemars(range(min = 0.0, max = 1.0))]
    pub beta1: f64,
    /// AdamW's decay of the second moment
    #[serde(default = "beta2")]
    #[schemars(range(min = 0.0, max = 1.0))]
    pub beta2: f64,
    /// AdamW's epsilon
    #[serde(default = "epsilon")]
    #[schemars(range(min = 0.0))]
    pub epsilon: f64,
    /// The norm to which gradients are clipped; 0 turns it off
    #[serde(default = "max_grad_norm")]
    #[schemars(range(min = 0.0))]
    pub max_grad_norm: f64,
    /// Measure and keep a moving average of the weights in their place
    #[serde(default)]
    pub average: Option<Average>,
    /// Dropout in embeddings, attention and residual branches; by default 0.1, and for a model that comes from a checkpoint
    /// what its config.json says of each of these
    #[serde(default)]
    #[schemars(range(min = 0.0, max = 0.99), extend("x-unsaid" = [null, 0.1]))]
    pub dropout: Option<f64>,
    /// Probability mass spread over the other classes
    #[serde(default)]
    #[schemars(range(min = 0.0, max = 0.99))]
    pub label_smoothing: f64,
    /// Steps between evaluations on the dev rows; once an epoch by default
    #[serde(default)]
    #[schemars(range(min = 1))]
    pub evaluate_every: Option<usize>,
    /// Stop when the dev metric no longer improves
    #[serde(default)]
    pub early_stopping: Option<EarlyStopping>,
    /// Keep the weights with the best value of this dev metric (accuracy, macro_f1 or loss; perplexity for instructions) instead of the last
    #[serde(default)]
    #[schemars(with = "Option<String>")]
    pub keep_best: Option<DevMetric>,
    /// Steps between two checkpoints, from which a stopped run resumes; by default one every three minutes
    #[serde(default)]
    #[schemars(range(min = 1), extend("x-role" = "free"))]
    pub checkpoint_every: Option<usize>,
    /// Steps between two lines of the log
    #[serde(default = "log_every")]
    #[schemars(range(min = 1), extend("x-role" = "free"))]
    pub log_every: usize,
    /// The stage's own seed, instead of the recipe's
    #[serde(default)]
    #[schemars(extend("x-role" = "free", "x-recorded" = "seeds are recorded with results"))]
    pub seed: Option<u64>,
}

open_place! {
    /// What makes steps out of gradients.
    Optimizer {
        /// The optimizer's name.
        name
    }
}

impl Train {
    /// The dropout of new models, where nothing is said.
    pub const DROPOUT: f64 = 0.1;

    /// Whether it depends on a dev metric which weights are kept, or when training ends.
    pub fn watches(&self, metric: &DevMetric) -> bool {
        self.keep_best.as_ref() == Some(metric)
            || self.early_stopping.as_ref().is_some_and(|stopping| stopping.metric == *metric)
    }

    /// Whether a longer training does, up to where this one ends, the same in every step: no step's learning rate depends
    /// on how many there are. All else (the draws of a mix, the order of examples, dropout, when dev rows are measured)
    /// goes by the number of the step.
    pub fn begins_longer_ones(&self) -> bool {
        self.schedule == Schedule::Constant && self.warmup_ratio.is_none_or(|ratio| ratio == 0.0)
    }
}

/// The size of a batch.
#[derive(Clone, Debug, Deserialize, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Batch {
    /// This many examples
    Examples(#[schemars(range(min = 1))] usize),
    /// As many examples of like length as fit into this many tokens
    Tokens(#[schemars(range(min = 8))] usize),
}

/// What of a batch is computed at a time: its gradients are added up, and the loss stays the mean of the whole step.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum MicroBatch {
    /// All of it
    #[default]
    Whole,
    /// As much as fits into the device's memory, by estimate; half of it where that turns out to be too much
    Auto,
    /// This many tokens, and one sequence at least
    Tokens(#[schemars(range(min = 8))] usize),
}

/// What a step's loss is the mean of.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum LossNormalization {
    /// All tokens (or rows) of the step, as one big batch would have it
    #[default]
    Token,
    /// The batches' own means, each of which weighs the same whatever it holds
    Batch,
}

impl Default for Batch {
    fn default() -> Self {
        Self::Examples(32)
    }
}

/// The dtype that training computes in. Weights, the optimizer, norms, softmax and losses have 32 bits with any of them.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Precision {
    /// 32 bits everywhere
    #[default]
    F32,
    /// 16 bits with the exponents of f32, in matrix products and between layers
    Bf16,
    /// 16 bits with small exponents, in matrix products and between layers; losses are scaled so that gradients keep in range
    F16,
    /// bf16 in matrix products, 32 bits between layers
    Mixed,
}

impl Precision {
    /// The word in recipes.
    pub fn name(self) -> &'static str {
        match self {
            Self::F32 => "f32",
            Self::Bf16 => "bf16",
            Self::F16 => "f16",
            Self::Mixed => "mixed",
        }
    }
}

/// The learning rate after warm-up.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Schedule {
    /// Falls in a straight line
    #[default]
    Linear,
    /// Falls along half a cosine
    Cosine,
    /// Stays
    Constant,
}

/// An exponential moving average of the weights, over the steps.
#[derive(Clone, Copy, Debug, Deserialize, JsonSchema, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Average {
    /// Share of the average that each step keeps: 0.99 looks back over some 100 steps
    #[serde(default = "average_decay")]
    #[schemars(range(min = 0.0, max = 0.999_999))]
    pub decay: f64,
}

/// When to stop before the last step.
#[derive(Clone, Debug, Deserialize, JsonSchema, Serialize)]
#[serde(deny_unknown_fields)]
pub struct EarlyStopping {
    /// The dev metric: accuracy, macro_f1 or loss; perplexity for instructions
    #[serde(default = "accuracy")]
    #[schemars(with = "String")]
    pub metric: DevMetric,
    /// Evaluations without improvement before training stops
    #[serde(default = "patience")]
    #[schemars(range(min = 1))]
    pub patience: usize,
}

fn one_batch() -> usize {
    1
}

fn max_length() -> usize {
    128
}

fn yes() -> bool {
    true
}

fn weight_decay() -> f64 {
    0.01
}

fn beta1() -> f64 {
    0.9
}

fn beta2() -> f64 {
    0.999
}

fn epsilon() -> f64 {
    1e-8
}

fn max_grad_norm() -> f64 {
    1.0
}

fn average_decay() -> f64 {
    0.99
}

fn log_every() -> usize {
    50
}

fn accuracy() -> DevMetric {
    DevMetric::ACCURACY
}

fn patience() -> usize {
    3
}
