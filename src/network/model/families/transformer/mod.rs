//! The transformer (Vaswani et al. 2017, <https://arxiv.org/abs/1706.03762>): an encoder reads a source and a decoder
//! writes what follows from it. Parameters lie as in Hugging Face's Marian.
//!
//! An example is divided where its prefix ends, as [`sides`] tells.

mod sides;

use std::sync::OnceLock;

use anyhow::{Result, ensure};
use burn::tensor::{Tensor, TensorData};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use self::sides::Sides;
use super::sizes::MultiHead;
use crate::{
    network::{
        kernels::{self, Gelu, Weight},
        model::{
            AnswerForm, Architecture, AttentionPattern, AttentionSizes, Builder, ConfigPattern, DropoutRates, Family,
            FamilyCode, Initial, ModelConfig, OnDisk, Output, Pass, Sizes, VectorId, WeightId,
            blocks::{
                Activation, AttentionDesign, CrossAttentionNames, DecoderLayer, EncoderStates, Layer, LayerDesign,
                LayerNames, NormKind, NormPlacement, Projection,
            },
            config::{check_settings, config_json, initializer_range},
        },
    },
    support::{Hinted, math},
};

/// The transformer.
pub static FAMILY: Family = Family {
    name: "transformer",
    description: "Transformer: an encoder of `layers` reads a prompt, a decoder of as many continues it, for `prefix_lm`",
    // 2 adds up the gradients of what the decoder's layers share in another order.
    version: 2,
    shares_second_version: true,
    attention: &[AttentionPattern::Prefix],
    form: AnswerForm::Prefix,
    chat: None,
    config: ConfigPattern { model_types: &["marian"], keys: &[] },
    // Marian's own classes keep one table of embeddings, and positions that are computed.
    on_disk: OnDisk {
        stacked: &[("self_attn.query_key_value", &["self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"])],
        rows: &["final_logits_bias"],
        ignored: &["embed_positions.weight", "embed_tokens.weight", "lm_head.weight"],
        tied: &[&[
            "lm_head.weight",
            "model.shared.weight",
            "model.encoder.embed_tokens.weight",
            "model.decoder.embed_tokens.weight",
        ]],
        ..OnDisk::PLAIN
    },
    token_keys: &[],
    dropout_keys: &["dropout", "attention_dropout"],
    classifier: None,
    code: FamilyCode::of::<TransformerConfig>(),
};

const WORDS: &str = "model.shared.weight";
const HEAD: &str = "lm_head.weight";

/// Both have the shared table once more, and positions that are computed.
const SIDES: [&str; 2] = ["encoder", "decoder"];

/// What Hugging Face's layer norms add to variances; no config names it.
const EPSILON: f64 = 1e-5;

/// Behind the numbers of the encoder's layers.
static ENCODER: LayerNames = LayerNames {
    layers: "model.encoder.layers",
    attention_norm: "self_attn_layer_norm",
    dense: "self_attn.out_proj",
    feed_forward_norm: "final_layer_norm",
    up: "fc1",
    down: "fc2",
};

/// The same for the decoder's.
static DECODER: LayerNames = LayerNames { layers: "model.decoder.layers", ..ENCODER };

/// What the decoder has beside that.
static CROSS_ATTENTION: CrossAttentionNames = CrossAttentionNames {
    projections: ["encoder_attn.q_proj", "encoder_attn.k_proj", "encoder_attn.v_proj"],
    dense: "encoder_attn.out_proj",
    norm: "encoder_attn_layer_norm",
};

/// What stands between the feed-forward layers, by Hugging Face's names.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum ActivationFunction {
    /// The paper's.
    Relu,
    /// That of most of Marian's models.
    #[serde(alias = "silu")]
    Swish,
    /// Hugging Face's default.
    #[default]
    Gelu,
}

/// The keys of `config.json` that matter, under Marian's names.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub struct TransformerConfig {
    /// Entries of the vocabulary, which source and target share.
    pub vocab_size: usize,
    /// Width of the hidden states.
    pub d_model: usize,
    /// The longest source, and the longest target.
    pub max_position_embeddings: usize,
    /// Layers of the encoder.
    pub encoder_layers: usize,
    /// Attention heads of the encoder.
    pub encoder_attention_heads: usize,
    /// Width of the encoder's feed-forward layers.
    pub encoder_ffn_dim: usize,
    /// Layers of the decoder.
    pub decoder_layers: usize,
    /// Attention heads of the decoder.
    pub decoder_attention_heads: usize,
    /// Width of the decoder's feed-forward layers.
    pub decoder_ffn_dim: usize,
    /// What stands between the feed-forward layers.
    #[serde(default)]
    pub activation_function: ActivationFunction,
    /// Whether embeddings are multiplied by the square root of their width.
    #[serde(default)]
    pub scale_embedding: bool,
    /// The token that the decoder begins with.
    pub decoder_start_token_id: u32,
    /// Standard deviation of new weights.
    #[serde(default = "initializer_range")]
    pub init_std: f64,
    /// Whether the table of embeddings gives the logits too; it does where nothing is said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tie_word_embeddings: Option<bool>,
    /// What else there was; it's written again.
    #[serde(flatten)]
    pub other: Map<String, Value>,
}

impl TransformerConfig {
    fn check(&self) -> Result<()> {
        AttentionSizes::multi_head(self.d_model, self.encoder_attention_heads).check()?;
        AttentionSizes::multi_head(self.d_model, self.decoder_attention_heads).check()?;
        let supported = [
            ("decoder_vocab_size", json!(self.vocab_size)),
            ("share_encoder_decoder_embeddings", json!(true)),
            ("static_position_embeddings", json!(true)),
            ("normalize_embedding", json!(false)),
            ("normalize_before", json!(false)),
            ("add_final_layer_norm", json!(false)),
        ];
        check_settings(&self.other, &supported)
    }

    /// The layers of one side.
    fn layer(&self, names: &'static LayerNames, heads: usize, inner: usize) -> LayerDesign {
        let projection = Projection::Stacked("self_attn.query_key_value");
        LayerDesign {
            names,
            hidden: self.d_model,
            attention: AttentionDesign::multi_head(self.d_model, heads, projection),
            feed_forward: inner,
            activation: match self.activation_function {
                ActivationFunction::Relu => Activation::Relu,
                ActivationFunction::Swish => Activation::Silu,
                ActivationFunction::Gelu => Activation::Gelu(Gelu::Erf),
            },
            bias: true,
            norm: NormKind::Layer(EPSILON),
            placement: NormPlacement::Post,
            deviation: self.init_std,
            last_deviation: self.init_std,
        }
    }
}

impl ModelConfig for TransformerConfig {
    type Settings = MultiHead;

    const OTHER_NAMES: &'static [(&'static str, &'static str)] = &[
        ("hidden_size", "d_model"),
        ("num_attention_heads", "encoder_attention_heads"),
        ("num_hidden_layers", "encoder_layers"),
    ];

    /// The same sizes for encoder and decoder; all else as in the paper.
    fn new(settings: &MultiHead, vocabulary: usize) -> Self {
        let inner = settings.feed_forward.unwrap_or(4 * settings.hidden);
        Self {
            vocab_size: vocabulary,
            d_model: settings.hidden,
            max_position_embeddings: settings.max_length,
            encoder_layers: settings.layers,
            encoder_attention_heads: settings.heads,
            encoder_ffn_dim: inner,
            decoder_layers: settings.layers,
            decoder_attention_heads: settings.heads,
            decoder_ffn_dim: inner,
            activation_function: ActivationFunction::Relu,
            scale_embedding: true,
            // [PAD] is the first token of trained tokenizers, and begins Marian's targets.
            decoder_start_token_id: 0,
            init_std: settings.initializer_range,
            tie_word_embeddings: None,
            other: Map::new(),
        }
    }

    fn build(mut self, builder: &mut Builder) -> Result<Box<dyn Architecture>> {
        self.check()?;
        let (shape, initial) = ([self.vocab_size, self.d_model], Initial::Normal(self.init_std));
        for side in SIDES {
            let table = format!("model.{side}.embed_tokens.weight");
            ensure!(builder.ties(WORDS, &table), "{table} isn't {WORDS}: sides with a table each aren't supported");
            let positions = format!("model.{side}.embed_positions.weight");
            builder.expect(&positions, &|| sinusoids(self.max_position_embeddings, self.d_model));
        }
        let tied = self.tie_word_embeddings.unwrap_or(true);
        let output = Output::find(builder, WORDS, HEAD, tied, None);
        if tied && !output.is_tied() {
            self.tie_word_embeddings = Some(false);
        }
        let token_embedding = builder.table(WORDS.into(), shape, initial);
        let layer = self.layer(&ENCODER, self.encoder_attention_heads, self.encoder_ffn_dim);
        let encoder = (0..self.encoder_layers).map(|index| Layer::new(builder, &layer, index)).collect();
        let layer = self.layer(&DECODER, self.decoder_attention_heads, self.decoder_ffn_dim);
        let decoder = (0..self.decoder_layers).map(|index| DecoderLayer::new(builder, &layer, &CROSS_ATTENTION, index));
        let decoder = decoder.collect();
        let bias = builder.vector("final_logits_bias".into(), self.vocab_size, Initial::Zeros);
        let output = output.matrix(builder, token_embedding, shape, initial);
        let positions = OnceLock::new();
        Ok(Box::new(Transformer { config: self, token_embedding, output, bias, encoder, decoder, positions }))
    }
}

/// Encoder, decoder, and the embeddings they share.
#[derive(Debug)]
struct Transformer {
    config: TransformerConfig,
    token_embedding: WeightId,
    /// What gives the logits: the same table, unless a checkpoint has another.
    output: WeightId,
    bias: VectorId,
    encoder: Vec<Layer>,
    decoder: Vec<DecoderLayer>,
    positions: OnceLock<Tensor<2>>,
}

impl Transformer {
    /// Embeddings of tokens and positions, `[T, hidden]`; `words` is the table of the former.
    fn embed(&self, pass: &Pass, words: &Weight) -> Tensor<2> {
        let mut x = kernels::embedding(words.clone(), &pass.tokens);
        if self.config.scale_embedding {
            x = x.mul_scalar((self.config.d_model as f32).sqrt());
        }
        let (rows, width) = (self.config.max_position_embeddings, self.config.d_model);
        let positions = self
            .positions
            .get_or_init(|| Tensor::from_data(TensorData::new(sinusoids(rows, width), [rows, width]), pass.device()));
        let x = pass.with_ngrams(x + kernels::embedding(positions.clone(), &pass.positions));
        let x = pass.to_stream(x);
        match pass.embedding_dropout() {
            Some(dropout) => kernels::dropout(x, &dropout),
            None => x,
        }
    }
}

/// Positions `[rows, width]` as waves of lengths from 2π to 20000π: all sines, then all cosines.
fn sinusoids(rows: usize, width: usize) -> Vec<f32> {
    let mut table = vec![0.0; rows * width];
    for (position, row) in table.chunks_exact_mut(width).enumerate() {
        let (sines, cosines) = row.split_at_mut(width.div_ceil(2));
        let angle = |i: usize| position as f64 / math::pow(10000.0, 2.0 * i as f64 / width as f64);
        sines.iter_mut().enumerate().for_each(|(i, value)| *value = math::sin(angle(i)) as f32);
        cosines.iter_mut().enumerate().for_each(|(i, value)| *value = math::cos(angle(i)) as f32);
    }
    table
}

impl Architecture for Transformer {
    fn sizes(&self) -> Sizes {
        Sizes {
            hidden: self.config.d_model,
            layers: self.config.encoder_layers + self.config.decoder_layers,
            vocabulary: self.config.vocab_size,
            max_length: self.config.max_position_embeddings,
            positions: Some(self.config.max_position_embeddings),
            initializer_range: self.config.init_std,
        }
    }

    fn dropout(&self) -> Result<DropoutRates> {
        for key in ["activation_dropout", "encoder_layerdrop", "decoder_layerdrop"] {
            let rate = self.config.other.get(key).unwrap_or(&Value::Null);
            let hint = "say in the recipe's `train` what `dropout` it's to have";
            ensure!(
                rate.is_null() || rate.as_f64() == Some(0.0),
                Hinted::with(format!("{key} {rate} isn't supported"), hint)
            );
        }
        let hidden = ("dropout", 0.1);
        DropoutRates::of(&self.config(), &[hidden, ("attention_dropout", 0.0), hidden])
    }

    fn class_name(&self, _pairs: bool) -> &'static str {
        "MarianMTModel"
    }

    fn config(&self) -> Value {
        let defaults = json!({
            "model_type": "marian",
            "is_encoder_decoder": true,
            "pad_token_id": self.config.decoder_start_token_id,
            // Hugging Face's own would be other tokens of a vocabulary that isn't Marian's.
            "bos_token_id": null,
            "eos_token_id": null,
            "forced_eos_token_id": null,
            "dropout": 0.1,
        });
        config_json(json!(self.config), defaults)
    }

    fn target_start(&self) -> Option<u32> {
        Some(self.config.decoder_start_token_id)
    }

    fn is_incremental(&self) -> bool {
        false
    }

    /// The decoder's, and for all but the last token of a source the encoder's.
    fn hidden(&self, pass: &Pass) -> Tensor<2> {
        let sides = Sides::new(pass, self.config.decoder_start_token_id);
        // Both sides' gradients are added up before that of the output, which has the same table, comes to them.
        let words = match pass.table(self.token_embedding) {
            Weight::Full(words) => Weight::Full(kernels::fork_in_order(&words)[0].clone()),
            compact @ Weight::Compact(_) => compact,
        };
        let states = pass.once(sides.source.tokens.len(), || {
            let source = pass.over(&sides.source);
            self.encoder.iter().fold(self.embed(&source, &words), |x, layer| layer.forward(&source, x))
        });
        let mut memory = EncoderStates { states, reads: sides.reads(pass.device()) };
        let target = pass.over(&sides.target);
        let mut written = self.embed(&target, &words);
        for layer in &self.decoder {
            let [own, rest] = memory.fork();
            written = layer.forward(&target, written, own);
            memory = rest;
        }
        kernels::embedding(Tensor::cat(vec![memory.states, written], 0), &sides.places(pass.device()))
    }

    fn output(&self) -> (WeightId, Option<VectorId>) {
        (self.output, Some(self.bias))
    }
}
