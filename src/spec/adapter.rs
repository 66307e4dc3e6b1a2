//! Adapters: a few parameters that are trained in place of the model they belong to.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// What is trained while the model itself stays as it is. New heads are trained, too.
#[derive(Clone, Debug, Deserialize, JsonSchema, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Adapter {
    /// Changes of linear layers of a low rank (LoRA, Hu et al. 2021)
    Lora(Lora),
    /// Keys and values before the first token, in every layer (P-tuning v2, Liu et al. 2021)
    PTuning(PTuning),
}

/// A linear layer gives `x W + b + alpha / r * B(A x)`, of which only A and B are trained.
#[derive(Clone, Debug, Deserialize, JsonSchema, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Lora {
    /// The rank: rows of A and columns of B
    #[serde(default = "rank")]
    #[schemars(range(min = 1))]
    pub r: usize,
    /// Divided by `r`, what the change is multiplied by
    #[serde(default = "alpha")]
    #[schemars(range(min = 0.0))]
    pub alpha: f64,
    /// Probability that a number is dropped on its way into A
    #[serde(default = "dropout")]
    #[schemars(range(min = 0.0, max = 0.99))]
    pub dropout: f64,
    /// The linear layers, by how their names in checkpoints end: `query_key_value`, `attention.dense`, …
    #[schemars(length(min = 1))]
    pub targets: Vec<String>,
    /// How the model's own weights are kept
    #[serde(default)]
    pub base_dtype: BaseDtype,
}

/// A table of keys and values that all tokens see before their own, without positions.
#[derive(Clone, Debug, Deserialize, JsonSchema, Serialize)]
#[serde(deny_unknown_fields)]
pub struct PTuning {
    /// Rows of the table
    #[serde(default = "tokens")]
    #[schemars(range(min = 1))]
    pub tokens: usize,
    /// Probability that a number of the table is dropped
    #[serde(default = "dropout")]
    #[schemars(range(min = 0.0, max = 0.99))]
    pub dropout: f64,
    /// How the model's own weights are kept
    #[serde(default)]
    pub base_dtype: BaseDtype,
}

/// How the weights of frozen linear layers are kept, in memory and in the artifact; everything is computed in f32.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum BaseDtype {
    /// Four bytes a number
    #[default]
    F32,
    /// Two bytes a number, with the exponents of f32
    Bf16,
    /// A byte a number, and a scale for each row
    Int8,
}

impl Adapter {
    /// How the model's own weights are kept.
    pub fn base_dtype(&self) -> BaseDtype {
        match self {
            Self::Lora(lora) => lora.base_dtype,
            Self::PTuning(tuning) => tuning.base_dtype,
        }
    }
}

fn rank() -> usize {
    8
}

fn alpha() -> f64 {
    32.0
}

fn dropout() -> f64 {
    0.1
}

fn tokens() -> usize {
    128
}
