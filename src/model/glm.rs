//! GLM (Du et al. 2022, <https://arxiv.org/abs/2103.10360>): a pre-norm transformer with two learned positions and
//! logits from the embedding table, following the training code, which has GELU's tanh form.

use anyhow::{Result, ensure};
use burn::tensor::Tensor;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::{
    blocks::{FeedForward, Linear, Norm, SelfAttention},
    family::{Family, check_heads, check_positions, check_tokens},
    initial::Initial,
    on_disk::OnDisk,
    parameters::{Builder, MatrixId, VectorId},
    pass::Pass,
};
use crate::{
    batch::Batch,
    kernels::{self, Gelu},
    recipe::spec,
};

/// Hugging Face's classes with a head put `glm.` before the names.
pub(super) static ON_DISK: OnDisk = OnDisk { prefix: "glm.", prefixed: false, ..OnDisk::PLAIN };

/// The training code's; no config names it.
const EPSILON: f32 = 1e-5;

/// The keys of `config.json` that matter, under the names that THUDM's converter writes.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub struct GlmConfig {
    /// Entries of the vocabulary.
    pub vocab_size: usize,
    /// Width of the hidden states.
    pub hidden_size: usize,
    /// Layers.
    pub num_layers: usize,
    /// Attention heads.
    pub num_attention_heads: usize,
    /// Width of the feed-forward layer; four times `hidden_size` where it's not given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub inner_hidden_size: Option<usize>,
    /// The longest sequence; both tables of positions have one row more.
    pub max_sequence_length: usize,
    /// Standard deviation of new weights.
    #[serde(default = "initializer_range")]
    pub initializer_range: f64,
    /// Factor on attention scores; only 1 is known.
    #[serde(default = "attention_scale")]
    pub attention_scale: f64,
    /// Whether positions are relative; they're not.
    #[serde(default)]
    pub relative_encoding: bool,
}

fn initializer_range() -> f64 {
    0.02
}

fn attention_scale() -> f64 {
    1.0
}

impl GlmConfig {
    /// The sizes that a recipe asks for.
    pub fn new(spec: &spec::Sizes, vocabulary: usize) -> Self {
        Self {
            vocab_size: vocabulary,
            hidden_size: spec.hidden,
            num_layers: spec.layers,
            num_attention_heads: spec.heads,
            inner_hidden_size: spec.feed_forward.filter(|&size| size != 4 * spec.hidden),
            max_sequence_length: spec.max_length,
            initializer_range: spec.initializer_range,
            attention_scale: 1.0,
            relative_encoding: false,
        }
    }

    fn check(&self) -> Result<()> {
        check_heads(self.hidden_size, self.num_attention_heads)?;
        ensure!(self.attention_scale == 1.0, "attention_scale {} isn't supported", self.attention_scale);
        ensure!(!self.relative_encoding, "relative_encoding isn't supported");
        Ok(())
    }
}

/// A GLM's blocks.
#[derive(Clone, Debug)]
pub struct Glm {
    config: GlmConfig,
    words: MatrixId,
    positions: MatrixId,
    block_positions: MatrixId,
    layers: Vec<Layer>,
    norm: Norm,
}

#[derive(Clone, Debug)]
struct Layer {
    attention_norm: Norm,
    attention: SelfAttention,
    feed_forward_norm: Norm,
    feed_forward: FeedForward,
}

impl Glm {
    /// Adds the parameters of a GLM.
    ///
    /// # Errors
    /// Heads that don't divide the hidden size; settings that aren't supported.
    pub fn new(config: GlmConfig, builder: &mut Builder) -> Result<Self> {
        config.check()?;
        let hidden = config.hidden_size;
        let initial = Initial::Normal(config.initializer_range);
        let words = builder.matrix("word_embeddings.weight".into(), [config.vocab_size, hidden], initial);
        let mut table = |name: &str| {
            builder.matrix(format!("transformer.{name}.weight"), [config.max_sequence_length + 1, hidden], initial)
        };
        let positions = table("position_embeddings");
        let block_positions = table("block_position_embeddings");
        let layers = (0..config.num_layers).map(|index| Layer::new(&config, index, builder)).collect();
        let norm = Norm::new(builder, "transformer.final_layernorm", hidden, EPSILON);
        Ok(Self { config, words, positions, block_positions, layers, norm })
    }
}

impl Layer {
    fn new(config: &GlmConfig, index: usize, builder: &mut Builder) -> Self {
        let hidden = config.hidden_size;
        let inner = config.inner_hidden_size.unwrap_or(4 * hidden);
        let first = config.initializer_range;
        // Each of the 2 L residual branches adds its share to the variance.
        let last = first / (2.0 * config.num_layers as f64).sqrt();
        let name = |part: &str| format!("transformer.layers.{index}.{part}");
        Self {
            attention_norm: Norm::new(builder, &name("input_layernorm"), hidden, EPSILON),
            attention: SelfAttention::new(
                Linear::new(builder, &name("attention.query_key_value"), [3 * hidden, hidden], first),
                Linear::new(builder, &name("attention.dense"), [hidden, hidden], last),
                config.num_attention_heads,
            ),
            feed_forward_norm: Norm::new(builder, &name("post_attention_layernorm"), hidden, EPSILON),
            feed_forward: FeedForward::new(
                Linear::new(builder, &name("mlp.dense_h_to_4h"), [inner, hidden], first),
                Linear::new(builder, &name("mlp.dense_4h_to_h"), [hidden, inner], last),
                Gelu::Tanh,
            ),
        }
    }

    fn forward(&self, pass: &Pass, x: Tensor<2>) -> Tensor<2> {
        let x = self.attention.add_to(pass, self.attention_norm.forward(pass, x.clone()), x);
        self.feed_forward.add_to(pass, self.feed_forward_norm.forward(pass, x.clone()), x)
    }
}

impl Family for Glm {
    fn name(&self) -> &'static str {
        "glm"
    }

    fn hidden_size(&self) -> usize {
        self.config.hidden_size
    }

    fn vocabulary(&self) -> usize {
        self.config.vocab_size
    }

    fn max_length(&self) -> usize {
        self.config.max_sequence_length
    }

    fn initializer_range(&self) -> f64 {
        self.config.initializer_range
    }

    fn on_disk(&self) -> &'static OnDisk {
        &ON_DISK
    }

    fn architecture(&self, _pairs: bool) -> &'static str {
        "GLMModel"
    }

    fn config(&self) -> Value {
        let mut config = json!(self.config);
        config["model_type"] = json!("glm");
        config["block_position_encoding"] = json!(true);
        config["output_predict"] = json!(true);
        config["pool_token"] = json!("cls");
        for place in ["embedding", "attention", "output"] {
            config[format!("{place}_dropout_prob")] = json!(0.1);
        }
        config["torch_dtype"] = json!("float32");
        config
    }

    fn check(&self, batch: &Batch) -> Result<()> {
        check_tokens(batch, self.config.vocab_size)?;
        // The tables have one row more than the longest sequence has tokens.
        check_positions(batch.positions.iter().chain(&batch.block_positions), self.max_length(), self.max_length() + 1)
    }

    fn hidden(&self, pass: &Pass) -> Tensor<2> {
        let words = (pass.matrix(self.words), &pass.tokens);
        let positions = (pass.matrix(self.positions), &pass.positions);
        let block_positions = (pass.matrix(self.block_positions), &pass.block_positions);
        let mut x = kernels::embedding_sum(words, [positions, block_positions]);
        if let Some(dropout) = pass.dropout() {
            x = kernels::dropout(x, &dropout);
        }
        let x = self.layers.iter().fold(x, |x, layer| layer.forward(pass, x));
        self.norm.forward(pass, x)
    }

    fn output(&self) -> (MatrixId, Option<VectorId>) {
        (self.words, None)
    }
}
