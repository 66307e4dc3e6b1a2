//! Settings that several families share: the sizes of a transformer, as recipes give them.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::network::model::{AttentionSizes, ModelSettings, NgramSettings, config::initializer_range};

/// The sizes of a transformer.
#[derive(Clone, Debug, Deserialize, JsonSchema, Serialize)]
#[schemars(rename = "Sizes")]
#[serde(deny_unknown_fields)]
pub struct MultiHead {
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
    /// Embeddings of n-grams of tokens beside those of tokens
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ngrams: Option<NgramSettings>,
}

/// The sizes of a transformer whose heads of queries share heads of keys.
#[derive(Clone, Debug, Deserialize, JsonSchema, Serialize)]
#[schemars(rename = "GroupedSizes")]
#[serde(deny_unknown_fields)]
pub struct GroupedQuery {
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
    #[serde(default = "kv_heads", rename = "groups")]
    #[schemars(range(min = 1))]
    pub kv_heads: usize,
    /// Width of a head, a multiple of 4; `hidden` divided by `heads` by default
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
    /// Embeddings of n-grams of tokens beside those of tokens
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ngrams: Option<NgramSettings>,
}

impl ModelSettings for MultiHead {
    fn max_length(&self) -> usize {
        self.max_length
    }

    fn attention(&self) -> AttentionSizes {
        AttentionSizes::multi_head(self.hidden, self.heads)
    }

    fn tiny() -> Self {
        let initializer_range = initializer_range();
        Self { hidden: 32, layers: 1, heads: 2, feed_forward: None, max_length: 16, initializer_range, ngrams: None }
    }

    fn ngrams(&self) -> Option<&NgramSettings> {
        self.ngrams.as_ref()
    }
}

impl ModelSettings for GroupedQuery {
    fn max_length(&self) -> usize {
        self.max_length
    }

    /// Half of each head is rotary.
    fn attention(&self) -> AttentionSizes {
        let &Self { hidden, heads, kv_heads, head_size, .. } = self;
        AttentionSizes { hidden, heads, kv_heads, head_size, rotary: true }
    }

    fn tiny() -> Self {
        Self {
            hidden: 32,
            layers: 1,
            heads: 2,
            kv_heads: kv_heads(),
            head_size: None,
            feed_forward: None,
            max_length: 16,
            rope_base: rope_base(),
            initializer_range: initializer_range(),
            ngrams: None,
        }
    }

    fn ngrams(&self) -> Option<&NgramSettings> {
        self.ngrams.as_ref()
    }
}

impl GroupedQuery {
    /// Width of the feed-forward layer: 8/3 of the hidden states' (Shazeer 2020), rounded up to a multiple of 8.
    pub fn feed_forward(&self) -> usize {
        self.feed_forward.unwrap_or((8 * self.hidden).div_ceil(3).next_multiple_of(8))
    }
}

fn kv_heads() -> usize {
    2
}

fn rope_base() -> f64 {
    10_000.0
}

fn max_length() -> usize {
    512
}
