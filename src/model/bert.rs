//! BERT (Devlin et al. 2019, <https://arxiv.org/abs/1810.04805>): a post-norm transformer with learned positions and
//! segments, and a head that guesses masked tokens from the embedding table.

use anyhow::{Result, ensure};
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

/// As `BertForPreTraining` has it, and bare or old files too.
pub(super) static ON_DISK: OnDisk = OnDisk {
    prefix: "bert.",
    prefixed: true,
    stacked: &[("self.query_key_value", &["self.query", "self.key", "self.value"])],
    formerly: &[("LayerNorm.weight", "LayerNorm.gamma"), ("LayerNorm.bias", "LayerNorm.beta")],
    ignored: &["embeddings.position_ids", "cls.predictions.decoder.weight", "cls.predictions.decoder.bias"],
    ..OnDisk::PLAIN
};

/// The keys of `config.json` that matter, under Hugging Face's names.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub struct BertConfig {
    /// Entries of the vocabulary.
    pub vocab_size: usize,
    /// Width of the hidden states.
    pub hidden_size: usize,
    /// Layers.
    pub num_hidden_layers: usize,
    /// Attention heads.
    pub num_attention_heads: usize,
    /// Width of the feed-forward layer.
    pub intermediate_size: usize,
    /// The longest sequence.
    pub max_position_embeddings: usize,
    /// How many kinds of segments there are.
    #[serde(default = "segments")]
    pub type_vocab_size: usize,
    /// Which GELU.
    #[serde(default = "activation")]
    pub hidden_act: String,
    /// Added to variances.
    #[serde(default = "epsilon")]
    pub layer_norm_eps: f64,
    /// Standard deviation of new weights.
    #[serde(default = "initializer_range")]
    pub initializer_range: f64,
    /// What else there was; it's written again.
    #[serde(flatten)]
    pub other: Map<String, Value>,
}

fn segments() -> usize {
    2
}

fn activation() -> String {
    "gelu".into()
}

fn epsilon() -> f64 {
    1e-12
}

fn initializer_range() -> f64 {
    0.02
}

impl BertConfig {
    /// The sizes that a recipe asks for.
    pub fn new(spec: &spec::Sizes, vocabulary: usize) -> Self {
        Self {
            vocab_size: vocabulary,
            hidden_size: spec.hidden,
            num_hidden_layers: spec.layers,
            num_attention_heads: spec.heads,
            intermediate_size: spec.feed_forward.unwrap_or(4 * spec.hidden),
            max_position_embeddings: spec.max_length,
            type_vocab_size: segments(),
            hidden_act: activation(),
            layer_norm_eps: epsilon(),
            initializer_range: spec.initializer_range,
            other: Map::new(),
        }
    }

    fn check(&self) -> Result<()> {
        check_heads(self.hidden_size, self.num_attention_heads)?;
        let known = [
            ("is_decoder", json!(false)),
            ("add_cross_attention", json!(false)),
            ("position_embedding_type", json!("absolute")),
            ("tie_word_embeddings", json!(true)),
        ];
        check_settings(&self.other, &known)
    }
}

/// BERT's blocks.
#[derive(Clone, Debug)]
pub struct Bert {
    config: BertConfig,
    words: MatrixId,
    positions: MatrixId,
    segments: MatrixId,
    norm: Norm,
    layers: Vec<Layer>,
    /// Bare checkpoints have none.
    head: Option<Head>,
}

#[derive(Clone, Debug)]
struct Layer {
    attention: SelfAttention,
    attention_norm: Norm,
    feed_forward: FeedForward,
    feed_forward_norm: Norm,
}

/// What stands between the hidden states and the embedding table.
#[derive(Clone, Debug)]
struct Head {
    dense: Linear,
    gelu: Gelu,
    norm: Norm,
    bias: VectorId,
}

impl Bert {
    /// Adds the parameters of a BERT.
    ///
    /// # Errors
    /// Heads that don't divide the hidden size; settings that aren't supported.
    pub fn new(config: BertConfig, builder: &mut Builder) -> Result<Self> {
        config.check()?;
        let gelu = gelu(&config.hidden_act)?;
        let hidden = config.hidden_size;
        let mut table = |name: &str, rows: usize| {
            let name = format!("embeddings.{name}_embeddings.weight");
            builder.matrix(name, [rows, hidden], Initial::Normal(config.initializer_range))
        };
        let words = table("word", config.vocab_size);
        let positions = table("position", config.max_position_embeddings);
        let segments = table("token_type", config.type_vocab_size);
        let norm = Norm::new(builder, "embeddings.LayerNorm", hidden, config.layer_norm_eps as f32);
        let layers = (0..config.num_hidden_layers).map(|index| Layer::new(&config, gelu, index, builder)).collect();
        let head = builder.has("cls.predictions.bias").then(|| Head::new(&config, gelu, builder));
        Ok(Self { config, words, positions, segments, norm, layers, head })
    }
}

impl Layer {
    fn new(config: &BertConfig, gelu: Gelu, index: usize, builder: &mut Builder) -> Self {
        let (hidden, inner) = (config.hidden_size, config.intermediate_size);
        let (deviation, epsilon) = (config.initializer_range, config.layer_norm_eps as f32);
        let name = |part: &str| format!("encoder.layer.{index}.{part}");
        let mut linear = |part: &str, shape: [usize; 2]| Linear::new(builder, &name(part), shape, deviation);
        let attention = SelfAttention::new(
            linear("attention.self.query_key_value", [3 * hidden, hidden]),
            linear("attention.output.dense", [hidden, hidden]),
            config.num_attention_heads,
        );
        let feed_forward = FeedForward::new(
            linear("intermediate.dense", [inner, hidden]),
            linear("output.dense", [hidden, inner]),
            gelu,
        );
        Self {
            attention,
            attention_norm: Norm::new(builder, &name("attention.output.LayerNorm"), hidden, epsilon),
            feed_forward,
            feed_forward_norm: Norm::new(builder, &name("output.LayerNorm"), hidden, epsilon),
        }
    }

    fn forward(&self, pass: &Pass, x: Tensor<2>) -> Tensor<2> {
        let x = self.attention_norm.forward(pass, self.attention.add_to(pass, x.clone(), x));
        self.feed_forward_norm.forward(pass, self.feed_forward.add_to(pass, x.clone(), x))
    }
}

impl Head {
    fn new(config: &BertConfig, gelu: Gelu, builder: &mut Builder) -> Self {
        let hidden = config.hidden_size;
        let name = |part: &str| format!("cls.predictions.{part}");
        Self {
            dense: Linear::new(builder, &name("transform.dense"), [hidden, hidden], config.initializer_range),
            gelu,
            norm: Norm::new(builder, &name("transform.LayerNorm"), hidden, config.layer_norm_eps as f32),
            bias: builder.vector(name("bias"), config.vocab_size, Initial::Zeros),
        }
    }
}

impl Family for Bert {
    fn name(&self) -> &'static str {
        "bert"
    }

    fn hidden_size(&self) -> usize {
        self.config.hidden_size
    }

    fn vocabulary(&self) -> usize {
        self.config.vocab_size
    }

    fn max_length(&self) -> usize {
        self.config.max_position_embeddings
    }

    fn initializer_range(&self) -> f64 {
        self.config.initializer_range
    }

    fn on_disk(&self) -> &'static OnDisk {
        &ON_DISK
    }

    fn architecture(&self, pairs: bool) -> &'static str {
        match (self.head.is_some(), pairs) {
            (true, true) => "BertForPreTraining",
            (true, false) => "BertForMaskedLM",
            (false, true) => "BertForNextSentencePrediction",
            (false, false) => "BertModel",
        }
    }

    fn config(&self) -> Value {
        let defaults = json!({
            "model_type": "bert",
            "hidden_dropout_prob": 0.1,
            "attention_probs_dropout_prob": 0.1,
            "pad_token_id": 0,
        });
        described(json!(self.config), defaults)
    }

    fn check(&self, batch: &Batch) -> Result<()> {
        check_tokens(batch, self.config.vocab_size)?;
        check_positions(batch.positions.iter(), self.max_length(), self.max_length())?;
        let (segment, segments) =
            (batch.segments.iter().max().map_or(0, |&id| id as usize), self.config.type_vocab_size);
        ensure!(segment < segments, "segment {segment} is past the {segments} that the model knows");
        let guesses = !batch.targets.is_empty() || !batch.choices.is_empty();
        ensure!(!guesses || self.head.is_some(), "the checkpoint has no head for masked tokens (cls.predictions)");
        Ok(())
    }

    fn hidden(&self, pass: &Pass) -> Tensor<2> {
        let words = (pass.matrix(self.words), &pass.tokens);
        let positions = (pass.matrix(self.positions), &pass.positions);
        let segments = (pass.matrix(self.segments), &pass.segments);
        let mut x = self.norm.forward(pass, kernels::embedding_sum(words, [positions, segments]));
        if let Some(dropout) = pass.dropout() {
            x = kernels::dropout(x, &dropout);
        }
        self.layers.iter().fold(x, |x, layer| layer.forward(pass, x))
    }

    fn before_logits(&self, pass: &Pass, hidden: Tensor<2>) -> Tensor<2> {
        match &self.head {
            Some(head) => head.norm.forward(pass, head.dense.gelu(pass, hidden, head.gelu)),
            None => hidden,
        }
    }

    fn output(&self) -> (MatrixId, Option<VectorId>) {
        (self.words, self.head.as_ref().map(|head| head.bias))
    }
}
