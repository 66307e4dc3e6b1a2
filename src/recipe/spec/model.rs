//! The model families and their sizes.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// A model to build from nothing, by family.
#[derive(Clone, Debug, Deserialize, JsonSchema, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Model {
    /// GLM: pre-norm transformer with learned 2D positions, for every objective
    Glm(Sizes),
    /// BERT: post-norm transformer that sees both directions, for `masked_lm` and sentence pairs
    Bert(Sizes),
    /// GPT-2: pre-norm transformer that sees what came before, for `causal_lm`
    Gpt2(Sizes),
    /// Transformer: an encoder of `layers` reads a prompt, a decoder of as many continues it, for `prefix_lm`
    Transformer(Sizes),
}

impl Model {
    /// The name of the family, as recipes have it.
    pub fn family(&self) -> &'static str {
        match self {
            Self::Glm(_) => "glm",
            Self::Bert(_) => "bert",
            Self::Gpt2(_) => "gpt2",
            Self::Transformer(_) => "transformer",
        }
    }

    /// How large the model is.
    pub fn sizes(&self) -> &Sizes {
        match self {
            Self::Glm(sizes) | Self::Bert(sizes) | Self::Gpt2(sizes) | Self::Transformer(sizes) => sizes,
        }
    }
}

/// The sizes of a transformer.
#[derive(Clone, Debug, Deserialize, JsonSchema, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Sizes {
    /// Width of the hidden states
    #[schemars(range(min = 1))]
    pub hidden: usize,
    /// Number of transformer layers
    #[schemars(range(min = 1))]
    pub layers: usize,
    /// Attention heads; must divide `hidden`
    #[schemars(range(min = 1))]
    pub heads: usize,
    /// Width of the feed-forward layer; four times `hidden` by default
    #[serde(default)]
    #[schemars(range(min = 1))]
    pub feed_forward: Option<usize>,
    /// The longest sequence, in tokens
    #[serde(default = "max_length")]
    #[schemars(range(min = 8))]
    pub max_length: usize,
    /// Standard deviation of the initial weights
    #[serde(default = "initializer_range")]
    pub initializer_range: f64,
}

fn max_length() -> usize {
    512
}

fn initializer_range() -> f64 {
    0.02
}
