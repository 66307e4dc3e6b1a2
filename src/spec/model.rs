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
    /// ChatGLM-6B, the first: DeepNorm and rotary 2D positions, for every objective
    Chatglm(Sizes),
    /// ChatGLM2 and ChatGLM3: RMS norms, gated feed-forward layers and few heads of keys, for `causal_lm`
    Chatglm2(GroupedSizes),
    /// GLM-4 as Hugging Face has it: like `chatglm2`, with norms around each branch, for `causal_lm`
    Glm4(GroupedSizes),
    /// Transformer: an encoder of `layers` reads a prompt, a decoder of as many continues it, for `prefix_lm`
    Transformer(Sizes),
}

/// How wide a model's attention is.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Heads {
    /// Width of the hidden states.
    pub hidden: usize,
    /// Heads of queries.
    pub heads: usize,
    /// Heads of keys and values.
    pub groups: usize,
    /// Numbers a head, where that is given.
    pub head_size: Option<usize>,
    /// Whether each half of a head, or one of them, is turned by positions in pairs.
    pub turned: bool,
}

impl Model {
    /// The name of the family, as recipes have it.
    pub fn family(&self) -> &'static str {
        match self {
            Self::Glm(_) => "glm",
            Self::Bert(_) => "bert",
            Self::Gpt2(_) => "gpt2",
            Self::Chatglm(_) => "chatglm",
            Self::Chatglm2(_) => "chatglm2",
            Self::Glm4(_) => "glm4",
            Self::Transformer(_) => "transformer",
        }
    }

    /// The longest sequence, in tokens.
    pub fn max_length(&self) -> usize {
        match self {
            Self::Glm(sizes)
            | Self::Bert(sizes)
            | Self::Gpt2(sizes)
            | Self::Chatglm(sizes)
            | Self::Transformer(sizes) => sizes.max_length,
            Self::Chatglm2(sizes) | Self::Glm4(sizes) => sizes.max_length,
        }
    }

    /// How wide its attention is.
    pub fn heads(&self) -> Heads {
        match *self {
            Self::Glm(Sizes { hidden, heads, .. })
            | Self::Bert(Sizes { hidden, heads, .. })
            | Self::Gpt2(Sizes { hidden, heads, .. })
            | Self::Transformer(Sizes { hidden, heads, .. }) => {
                Heads { hidden, heads, groups: heads, head_size: None, turned: false }
            }
            Self::Chatglm(Sizes { hidden, heads, .. }) => {
                Heads { hidden, heads, groups: heads, head_size: None, turned: true }
            }
            Self::Chatglm2(GroupedSizes { hidden, heads, groups, head_size, .. })
            | Self::Glm4(GroupedSizes { hidden, heads, groups, head_size, .. }) => {
                Heads { hidden, heads, groups, head_size, turned: true }
            }
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

/// The sizes of a transformer whose heads of queries share heads of keys.
#[derive(Clone, Debug, Deserialize, JsonSchema, Serialize)]
#[serde(deny_unknown_fields)]
pub struct GroupedSizes {
    /// Width of the hidden states
    #[schemars(range(min = 1))]
    pub hidden: usize,
    /// Number of transformer layers
    #[schemars(range(min = 1))]
    pub layers: usize,
    /// Heads of queries; must divide `hidden` where `head_size` isn't given
    #[schemars(range(min = 1))]
    pub heads: usize,
    /// Heads of keys and values; must divide `heads`
    #[serde(default = "groups")]
    #[schemars(range(min = 1))]
    pub groups: usize,
    /// Numbers a head, a multiple of 4; `hidden` divided by `heads` by default
    #[serde(default)]
    #[schemars(range(min = 4))]
    pub head_size: Option<usize>,
    /// Width of the feed-forward layer; by default what makes its three matrices as large as two of four times `hidden`
    #[serde(default)]
    #[schemars(range(min = 1))]
    pub feed_forward: Option<usize>,
    /// The longest sequence, in tokens
    #[serde(default = "max_length")]
    #[schemars(range(min = 8))]
    pub max_length: usize,
    /// What the angles of rotary positions fall off by; more for longer sequences
    #[serde(default = "rope_base")]
    #[schemars(range(min = 1.0))]
    pub rope_base: f64,
    /// Standard deviation of the initial weights
    #[serde(default = "initializer_range")]
    pub initializer_range: f64,
}

impl GroupedSizes {
    /// Numbers a head.
    pub fn head_size(&self) -> usize {
        self.head_size.unwrap_or(self.hidden / self.heads.max(1))
    }

    /// Width of the feed-forward layer: 8/3 of the hidden states' (Shazeer 2020), rounded up to a multiple of 8.
    pub fn feed_forward(&self) -> usize {
        self.feed_forward.unwrap_or((8 * self.hidden).div_ceil(3).next_multiple_of(8))
    }
}

fn groups() -> usize {
    2
}

fn rope_base() -> f64 {
    10_000.0
}

fn max_length() -> usize {
    512
}

fn initializer_range() -> f64 {
    0.02
}
