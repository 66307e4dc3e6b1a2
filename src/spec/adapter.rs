//! Adapters: a few parameters that are trained in place of the model they belong to.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// What is trained while the model itself stays as it is. New heads are trained, too.
#[derive(Clone, Debug, Deserialize, JsonSchema, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Adapter {
    /// Low-rank updates of linear layers (LoRA, Hu et al. 2021)
    Lora(Lora),
    /// Trained keys and values before the first token, in every layer (P-tuning v2, Liu et al. 2021)
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
    /// The update is scaled by `alpha / r`
    #[serde(default = "alpha")]
    #[schemars(range(min = 0.0))]
    pub alpha: f64,
    /// Dropout on the input of A
    #[serde(default = "dropout")]
    #[schemars(range(min = 0.0, max = 0.99))]
    pub dropout: f64,
    /// The linear layers, by how their names in checkpoints end: `query_key_value`, `attention.dense`, …
    #[schemars(length(min = 1))]
    pub targets: Vec<String>,
    /// The dtype of the frozen weights
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
    /// Dropout on the table
    #[serde(default = "dropout")]
    #[schemars(range(min = 0.0, max = 0.99))]
    pub dropout: f64,
    /// The dtype of the frozen weights
    #[serde(default)]
    pub base_dtype: BaseDtype,
}

/// How the weights of frozen linear layers are kept, in memory and in the artifact; everything is computed in f32.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum BaseDtype {
    /// Four bytes per weight
    #[default]
    F32,
    /// Two bytes per weight, with the exponents of f32
    Bf16,
    /// One byte per weight, and a scale for each row
    Int8,
}

impl Adapter {
    /// The dtype of the frozen weights.
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
