//! GPT-2 (Radford et al. 2019): a pre-norm transformer with learned positions and logits from the embedding table.

use anyhow::Result;
use burn::tensor::Tensor;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use super::{
    blocks::{Activation, Arrangement, AttentionDesign, Backbone, LayerDesign, LayerNames, Norm, NormKind, Projection},
    family::{Family, Sizes, check_heads, check_settings, described, gelu},
    initial::Initial,
    on_disk::OnDisk,
    parameters::{Builder, MatrixId, VectorId},
    pass::{Along, Pass},
};
use crate::{data::text::Special, spec};

/// As `GPT2LMHeadModel` has it, whose linear layers are convolutions of width 1, and the bare files of old.
pub(super) static ON_DISK: OnDisk = OnDisk {
    prefix: "transformer.",
    prefixed: true,
    transposed: &["c_attn.weight", "c_proj.weight", "c_fc.weight"],
    ignored: &["lm_head.weight", "attn.bias", "attn.masked_bias"],
    ..OnDisk::PLAIN
};

const NAMES: LayerNames = LayerNames {
    layers: "h",
    attention_norm: "ln_1",
    dense: "attn.c_proj",
    feed_forward_norm: "ln_2",
    up: "mlp.c_fc",
    down: "mlp.c_proj",
};

/// The keys of `config.json` that matter, under Hugging Face's names.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub struct Gpt2Config {
    /// Entries of the vocabulary.
    pub vocab_size: usize,
    /// The longest sequence.
    pub n_positions: usize,
    /// Width of the hidden states.
    pub n_embd: usize,
    /// Layers.
    pub n_layer: usize,
    /// Attention heads.
    pub n_head: usize,
    /// Width of the feed-forward layer; four times `n_embd` where it's not given.
    #[serde(default)]
    pub n_inner: Option<usize>,
    /// Which GELU.
    #[serde(default = "activation")]
    pub activation_function: String,
    /// Added to variances.
    #[serde(default = "epsilon")]
    pub layer_norm_epsilon: f64,
    /// Standard deviation of new weights.
    #[serde(default = "initializer_range")]
    pub initializer_range: f64,
    /// What else there was; it's written again.
    #[serde(flatten)]
    pub other: Map<String, Value>,
}

fn activation() -> String {
    "gelu_new".into()
}

fn epsilon() -> f64 {
    1e-5
}

fn initializer_range() -> f64 {
    0.02
}

impl Gpt2Config {
    /// The sizes that a recipe asks for.
    pub fn new(spec: &spec::Sizes, vocabulary: usize) -> Self {
        Self {
            vocab_size: vocabulary,
            n_positions: spec.max_length,
            n_embd: spec.hidden,
            n_layer: spec.layers,
            n_head: spec.heads,
            n_inner: spec.feed_forward.filter(|&size| size != 4 * spec.hidden),
            activation_function: activation(),
            layer_norm_epsilon: epsilon(),
            initializer_range: spec.initializer_range,
            other: Map::new(),
        }
    }

    fn check(&self) -> Result<()> {
        check_heads(self.n_embd, self.n_head)?;
        let known = [
            ("add_cross_attention", json!(false)),
            ("scale_attn_weights", json!(true)),
            ("scale_attn_by_inverse_layer_idx", json!(false)),
            ("tie_word_embeddings", json!(true)),
        ];
        check_settings(&self.other, &known)
    }

    fn layer(&self) -> Result<LayerDesign> {
        Ok(LayerDesign {
            names: &NAMES,
            hidden: self.n_embd,
            attention: AttentionDesign::classic(self.n_embd, self.n_head, Projection::Stacked("attn.c_attn")),
            feed_forward: self.n_inner.unwrap_or(4 * self.n_embd),
            activation: Activation::Gelu(gelu(&self.activation_function)?),
            bias: true,
            norm: NormKind::Layer(self.layer_norm_epsilon),
            arrangement: Arrangement::Pre,
            deviation: self.initializer_range,
            last_deviation: LayerDesign::shared(self.initializer_range, self.n_layer),
        })
    }
}

/// A GPT-2's blocks.
#[derive(Clone, Debug)]
pub struct Gpt2 {
    config: Gpt2Config,
    backbone: Backbone,
}

impl Gpt2 {
    /// Adds the parameters of a GPT-2.
    ///
    /// # Errors
    /// Heads that don't divide the hidden size; settings that aren't supported.
    pub fn new(config: Gpt2Config, builder: &mut Builder) -> Result<Self> {
        config.check()?;
        let layer = config.layer()?;
        let initial = Initial::Normal(config.initializer_range);
        let words = builder.matrix("wte.weight".into(), [config.vocab_size, config.n_embd], initial);
        let positions = builder.matrix("wpe.weight".into(), [config.n_positions, config.n_embd], initial);
        let layers = Backbone::layers(builder, &layer, config.n_layer);
        let norm = Some(Norm::new(builder, "ln_f", config.n_embd, layer.norm));
        let tables = vec![(positions, Along::Positions)];
        Ok(Self { config, backbone: Backbone { words, tables, embedding_norm: None, layers, norm } })
    }
}

impl Family for Gpt2 {
    fn name(&self) -> &'static str {
        "gpt2"
    }

    fn sizes(&self) -> Sizes {
        Sizes {
            hidden: self.config.n_embd,
            layers: self.config.n_layer,
            vocabulary: self.config.vocab_size,
            max_length: self.config.n_positions,
            initializer_range: self.config.initializer_range,
        }
    }

    fn on_disk(&self) -> &'static OnDisk {
        &ON_DISK
    }

    fn architecture(&self, _pairs: bool) -> &'static str {
        "GPT2LMHeadModel"
    }

    fn config(&self) -> Value {
        let defaults = json!({
            "model_type": "gpt2",
            "embd_pdrop": 0.1,
            "attn_pdrop": 0.1,
            "resid_pdrop": 0.1,
            // Hugging Face's own would be past a small vocabulary.
            "bos_token_id": null,
            "eos_token_id": null,
        });
        described(json!(self.config), defaults)
    }

    fn token_keys(&self) -> &'static [(&'static str, Special)] {
        &[("bos_token_id", Special::Cls), ("eos_token_id", Special::Eop)]
    }

    fn is_causal(&self) -> bool {
        true
    }

    fn hidden(&self, pass: &Pass) -> Tensor<2> {
        self.backbone.hidden(pass)
    }

    fn output(&self) -> (MatrixId, Option<VectorId>) {
        (self.backbone.words, None)
    }
}
