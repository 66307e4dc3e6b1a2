//! GPT-2 (Radford et al. 2019): a pre-norm transformer with learned positions and logits from the embedding table.

use anyhow::Result;
use burn::tensor::Tensor;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use super::{
    blocks::{FeedForward, Linear, Norm, SelfAttention},
    family::{Family, check_heads, check_positions, check_settings, check_tokens, described, gelu},
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

/// As `GPT2LMHeadModel` has it, whose linear layers are convolutions of width 1, and the bare files of old.
pub(super) static ON_DISK: OnDisk = OnDisk {
    prefix: "transformer.",
    prefixed: true,
    transposed: &["c_attn.weight", "c_proj.weight", "c_fc.weight"],
    ignored: &["lm_head.weight", "attn.bias", "attn.masked_bias"],
    ..OnDisk::PLAIN
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
}

/// A GPT-2's blocks.
#[derive(Clone, Debug)]
pub struct Gpt2 {
    config: Gpt2Config,
    words: MatrixId,
    positions: MatrixId,
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

impl Gpt2 {
    /// Adds the parameters of a GPT-2.
    ///
    /// # Errors
    /// Heads that don't divide the hidden size; settings that aren't supported.
    pub fn new(config: Gpt2Config, builder: &mut Builder) -> Result<Self> {
        config.check()?;
        let gelu = gelu(&config.activation_function)?;
        let initial = Initial::Normal(config.initializer_range);
        let words = builder.matrix("wte.weight".into(), [config.vocab_size, config.n_embd], initial);
        let positions = builder.matrix("wpe.weight".into(), [config.n_positions, config.n_embd], initial);
        let layers = (0..config.n_layer).map(|index| Layer::new(&config, gelu, index, builder)).collect();
        let norm = Norm::new(builder, "ln_f", config.n_embd, config.layer_norm_epsilon as f32);
        Ok(Self { config, words, positions, layers, norm })
    }
}

impl Layer {
    fn new(config: &Gpt2Config, gelu: Gelu, index: usize, builder: &mut Builder) -> Self {
        let hidden = config.n_embd;
        let inner = config.n_inner.unwrap_or(4 * hidden);
        let epsilon = config.layer_norm_epsilon as f32;
        let first = config.initializer_range;
        // Each of the 2 L residual branches adds its share to the variance.
        let last = first / (2.0 * config.n_layer as f64).sqrt();
        let name = |part: &str| format!("h.{index}.{part}");
        Self {
            attention_norm: Norm::new(builder, &name("ln_1"), hidden, epsilon),
            attention: SelfAttention::new(
                Linear::new(builder, &name("attn.c_attn"), [3 * hidden, hidden], first),
                Linear::new(builder, &name("attn.c_proj"), [hidden, hidden], last),
                config.n_head,
            ),
            feed_forward_norm: Norm::new(builder, &name("ln_2"), hidden, epsilon),
            feed_forward: FeedForward::new(
                Linear::new(builder, &name("mlp.c_fc"), [inner, hidden], first),
                Linear::new(builder, &name("mlp.c_proj"), [hidden, inner], last),
                gelu,
            ),
        }
    }

    fn forward(&self, pass: &Pass, x: Tensor<2>) -> Tensor<2> {
        let x = self.attention.add_to(pass, self.attention_norm.forward(pass, x.clone()), x);
        self.feed_forward.add_to(pass, self.feed_forward_norm.forward(pass, x.clone()), x)
    }
}

impl Family for Gpt2 {
    fn name(&self) -> &'static str {
        "gpt2"
    }

    fn hidden_size(&self) -> usize {
        self.config.n_embd
    }

    fn vocabulary(&self) -> usize {
        self.config.vocab_size
    }

    fn max_length(&self) -> usize {
        self.config.n_positions
    }

    fn initializer_range(&self) -> f64 {
        self.config.initializer_range
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

    fn is_causal(&self) -> bool {
        true
    }

    fn check(&self, batch: &Batch) -> Result<()> {
        check_tokens(batch, self.config.vocab_size)?;
        check_positions(batch.positions.iter(), self.max_length(), self.max_length())
    }

    fn hidden(&self, pass: &Pass) -> Tensor<2> {
        let words = (pass.matrix(self.words), &pass.tokens);
        let positions = (pass.matrix(self.positions), &pass.positions);
        let mut x = kernels::embedding_sum(words, [positions]);
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
