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
    /// What the frozen weights are held as; f32 where nothing is said
    #[serde(default)]
    pub weights: Option<WeightForm>,
    /// The older name of `weights`
    #[serde(default)]
    pub base_dtype: WeightForm,
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
    /// What the frozen weights are held as; f32 where nothing is said
    #[serde(default)]
    pub weights: Option<WeightForm>,
    /// The older name of `weights`
    #[serde(default)]
    pub base_dtype: WeightForm,
}

/// How weights that aren't learned are held, in memory and in the artifact. Everything is computed in f32, but for what
/// `int4` says.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum WeightForm {
    /// Four bytes per weight
    #[default]
    F32,
    /// Two bytes per weight, with the exponents of f32
    Bf16,
    /// Two bytes per weight, with more digits and fewer exponents
    F16,
    /// One byte per weight, and a scale for each row
    Int8,
    /// Half a byte per weight, and a scale for each 32 of a row. On x86-64 with AVX2, where up to eight tokens are computed at a
    /// time, what is multiplied with these is rounded to 16 bits in groups of 32, but not with `PIPE_KERNELS=portable`
    Int4,
}

impl WeightForm {
    /// All of them, those with most bits first.
    pub const ALL: [Self; 5] = [Self::F32, Self::Bf16, Self::F16, Self::Int8, Self::Int4];

    /// Whether it has fewer bits than what is learned.
    pub fn is_compact(self) -> bool {
        self != Self::F32
    }

    /// As recipes have it.
    pub fn name(self) -> &'static str {
        match self {
            Self::F32 => "f32",
            Self::Bf16 => "bf16",
            Self::F16 => "f16",
            Self::Int8 => "int8",
            Self::Int4 => "int4",
        }
    }
}

impl Adapter {
    /// What the frozen weights are held as.
    pub fn weights(&self) -> WeightForm {
        match self {
            Self::Lora(lora) => lora.weights.unwrap_or(lora.base_dtype),
            Self::PTuning(tuning) => tuning.weights.unwrap_or(tuning.base_dtype),
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
