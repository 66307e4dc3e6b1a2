//! GLM (Du et al. 2022, <https://arxiv.org/abs/2103.10360>): a pre-norm transformer with two learned positions and
//! logits from the embedding table, following the training code, which has GELU's tanh form.

use anyhow::{Result, ensure};
use burn::tensor::Tensor;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::{
    blocks::{Activation, Arrangement, AttentionDesign, Backbone, LayerDesign, LayerNames, Norm, NormKind, Projection},
    family::{Family, Sizes, check_heads, check_positions, check_tokens},
    initial::Initial,
    on_disk::OnDisk,
    parameters::{Builder, MatrixId, VectorId},
    pass::{Along, Pass},
};
use crate::{
    network::{batch::Batch, kernels::Gelu},
    spec,
};

/// Hugging Face's classes with a head put `glm.` before the names.
pub(super) static ON_DISK: OnDisk = OnDisk { prefix: "glm.", prefixed: false, ..OnDisk::PLAIN };

const NAMES: LayerNames = LayerNames {
    layers: "transformer.layers",
    attention_norm: "input_layernorm",
    dense: "attention.dense",
    feed_forward_norm: "post_attention_layernorm",
    up: "mlp.dense_h_to_4h",
    down: "mlp.dense_4h_to_h",
};

/// The training code's; no config names the epsilon.
const NORM: NormKind = NormKind::Layer(1e-5);

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

    fn layer(&self) -> LayerDesign {
        LayerDesign {
            names: &NAMES,
            hidden: self.hidden_size,
            attention: AttentionDesign::classic(
                self.hidden_size,
                self.num_attention_heads,
                Projection::Stacked("attention.query_key_value"),
            ),
            feed_forward: self.inner_hidden_size.unwrap_or(4 * self.hidden_size),
            activation: Activation::Gelu(Gelu::Tanh),
            bias: true,
            norm: NORM,
            arrangement: Arrangement::Pre,
            deviation: self.initializer_range,
            last_deviation: LayerDesign::shared(self.initializer_range, self.num_layers),
        }
    }
}

/// A GLM's blocks.
#[derive(Clone, Debug)]
pub struct Glm {
    config: GlmConfig,
    backbone: Backbone,
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
        let positions = (table("position_embeddings"), Along::Positions);
        let block_positions = (table("block_position_embeddings"), Along::BlockPositions);
        let layers = Backbone::layers(builder, &config.layer(), config.num_layers);
        let norm = Some(Norm::new(builder, "transformer.final_layernorm", hidden, NORM));
        let tables = vec![positions, block_positions];
        Ok(Self { config, backbone: Backbone { words, tables, embedding_norm: None, layers, norm } })
    }
}

impl Family for Glm {
    fn name(&self) -> &'static str {
        "glm"
    }

    fn sizes(&self) -> Sizes {
        Sizes {
            hidden: self.config.hidden_size,
            layers: self.config.num_layers,
            vocabulary: self.config.vocab_size,
            max_length: self.config.max_sequence_length,
            initializer_range: self.config.initializer_range,
        }
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
        let longest = self.config.max_sequence_length;
        check_positions(batch.positions.iter().chain(&batch.block_positions), longest, longest + 1)
    }

    fn hidden(&self, pass: &Pass) -> Tensor<2> {
        self.backbone.hidden(pass)
    }

    fn output(&self) -> (MatrixId, Option<VectorId>) {
        (self.backbone.words, None)
    }
}
