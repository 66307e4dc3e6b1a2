//! Layers of encoder and decoder, with norms behind the branches.

use burn::tensor::{Tensor, activation};
use serde::{Deserialize, Serialize};

use super::{EPSILON, TransformerConfig};
use crate::{
    kernels::{self, KeyValue, Visible},
    model::{
        blocks::{Linear, Norm, SelfAttention},
        parameters::Builder,
        pass::Pass,
    },
};

/// What stands between the feed-forward layers, by Hugging Face's names.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Activation {
    /// `max(x, 0)`, the paper's.
    Relu,
    /// `x sigmoid(x)`, that of most of Marian's models.
    #[serde(alias = "silu")]
    Swish,
    /// Gaussian error linear unit.
    #[default]
    Gelu,
}

/// Attention and feed-forward of a source's tokens.
#[derive(Clone, Debug)]
pub(super) struct EncoderLayer {
    attention: SelfAttention,
    attention_norm: Norm,
    feed_forward: FeedForward,
    feed_forward_norm: Norm,
}

impl EncoderLayer {
    pub(super) fn new(config: &TransformerConfig, index: usize, builder: &mut Builder) -> Self {
        let name = format!("model.encoder.layers.{index}");
        Self {
            attention: self_attention(config, &name, config.encoder_attention_heads, builder),
            attention_norm: norm(config, &format!("{name}.self_attn_layer_norm"), builder),
            feed_forward: FeedForward::new(config, &name, config.encoder_ffn_dim, builder),
            feed_forward_norm: norm(config, &format!("{name}.final_layer_norm"), builder),
        }
    }

    /// `[S, hidden]` to the same.
    pub(super) fn forward(&self, pass: &Pass, x: Tensor<2>) -> Tensor<2> {
        let x = self.attention_norm.forward(pass, self.attention.add_to(pass, x.clone(), x));
        self.feed_forward_norm.forward(pass, self.feed_forward.add_to(pass, x.clone(), x))
    }
}

/// Attention of a target's tokens to those before them, then to the source, and feed-forward.
#[derive(Clone, Debug)]
pub(super) struct DecoderLayer {
    attention: SelfAttention,
    attention_norm: Norm,
    reading: Reading,
    reading_norm: Norm,
    feed_forward: FeedForward,
    feed_forward_norm: Norm,
}

impl DecoderLayer {
    pub(super) fn new(config: &TransformerConfig, index: usize, builder: &mut Builder) -> Self {
        let name = format!("model.decoder.layers.{index}");
        Self {
            attention: self_attention(config, &name, config.decoder_attention_heads, builder),
            attention_norm: norm(config, &format!("{name}.self_attn_layer_norm"), builder),
            reading: Reading::new(config, &format!("{name}.encoder_attn"), builder),
            reading_norm: norm(config, &format!("{name}.encoder_attn_layer_norm"), builder),
            feed_forward: FeedForward::new(config, &name, config.decoder_ffn_dim, builder),
            feed_forward_norm: norm(config, &format!("{name}.final_layer_norm"), builder),
        }
    }

    /// `[T, hidden]` to the same; `memory [S, hidden]` is what the encoder made of the source, of which each token
    /// `reads` its own.
    pub(super) fn forward(&self, pass: &Pass, x: Tensor<2>, memory: &Tensor<2>, reads: &Visible) -> Tensor<2> {
        let x = self.attention_norm.forward(pass, self.attention.add_to(pass, x.clone(), x));
        let x = self.reading_norm.forward(pass, self.reading.add_to(pass, x, memory, reads));
        self.feed_forward_norm.forward(pass, self.feed_forward.add_to(pass, x.clone(), x))
    }
}

fn norm(config: &TransformerConfig, name: &str, builder: &mut Builder) -> Norm {
    Norm::new(builder, name, config.d_model, EPSILON)
}

fn self_attention(config: &TransformerConfig, layer: &str, heads: usize, builder: &mut Builder) -> SelfAttention {
    let (hidden, deviation) = (config.d_model, config.init_std);
    let mut linear =
        |part: &str, rows| Linear::new(builder, &format!("{layer}.self_attn.{part}"), [rows, hidden], deviation);
    SelfAttention::new(linear("query_key_value", 3 * hidden), linear("out_proj", hidden), heads)
}

/// Attention of a target's tokens to their source.
#[derive(Clone, Debug)]
struct Reading {
    query: Linear,
    key: Linear,
    value: Linear,
    dense: Linear,
    heads: usize,
}

impl Reading {
    fn new(config: &TransformerConfig, name: &str, builder: &mut Builder) -> Self {
        let (hidden, deviation) = (config.d_model, config.init_std);
        let mut linear = |part: &str| Linear::new(builder, &format!("{name}.{part}_proj"), [hidden, hidden], deviation);
        let (query, key, value, dense) = (linear("q"), linear("k"), linear("v"), linear("out"));
        Self { query, key, value, dense, heads: config.decoder_attention_heads }
    }

    /// `x + dropout(attention(x, memory))`.
    fn add_to(&self, pass: &Pass, x: Tensor<2>, memory: &Tensor<2>, reads: &Visible) -> Tensor<2> {
        let query = self.query.forward(pass, x.clone());
        let keys =
            KeyValue { key: self.key.forward(pass, memory.clone()), value: self.value.forward(pass, memory.clone()) };
        let (heads, dropout) = (self.heads, pass.dropout());
        let context = kernels::grouped_attention(query, keys, None, reads, heads, heads, dropout.as_ref());
        self.dense.add_to(pass, context, x)
    }
}

/// Two linear layers with an activation between them.
#[derive(Clone, Debug)]
struct FeedForward {
    up: Linear,
    down: Linear,
    activation: Activation,
}

impl FeedForward {
    fn new(config: &TransformerConfig, layer: &str, inner: usize, builder: &mut Builder) -> Self {
        let (hidden, deviation) = (config.d_model, config.init_std);
        Self {
            up: Linear::new(builder, &format!("{layer}.fc1"), [inner, hidden], deviation),
            down: Linear::new(builder, &format!("{layer}.fc2"), [hidden, inner], deviation),
            activation: config.activation_function,
        }
    }

    /// `residual + dropout(feed_forward(x))`, all `[T, hidden]`.
    fn add_to(&self, pass: &Pass, x: Tensor<2>, residual: Tensor<2>) -> Tensor<2> {
        let inner = self.up.forward(pass, x);
        let inner = match self.activation {
            Activation::Relu => activation::relu(inner),
            Activation::Swish => activation::silu(inner),
            Activation::Gelu => kernels::gelu(inner, kernels::Gelu::Erf),
        };
        self.down.add_to(pass, inner, residual)
    }
}
