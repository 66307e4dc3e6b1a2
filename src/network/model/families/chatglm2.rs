//! ChatGLM2 and ChatGLM3, and GLM-4 as its first code had it (Zeng et al. 2024, <https://arxiv.org/abs/2406.12793>): a
//! causal pre-norm transformer with RMS norms, gated feed-forward layers, few heads of keys, and rotary positions in one
//! half of each head.

use anyhow::Result;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use super::sizes::GroupedQuery;
use crate::{
    data::text::Special,
    network::{
        kernels::{RotaryPairs, Rotation},
        model::{
            Along, AnswerForm, Architecture, AttentionPattern, AttentionSizes, Builder, ConfigPattern, DropoutKeys,
            Family, FamilyCode, Initial, ModelConfig, ModelSettings, OnDisk, PrefixTuning, RopeSettings, SingleStack,
            Sizes, WeightRole,
            blocks::{
                Activation, AttentionDesign, Backbone, LayerDesign, LayerNames, Norm, NormKind, NormPlacement,
                Projection, RotaryEmbedding,
            },
            config::{PREFIX_LENGTH, check_settings, config_json, initializer_range, set_quantization_aside},
        },
    },
    spec::ChatFormat,
};

/// ChatGLM2 and ChatGLM3.
pub static FAMILY: Family = Family {
    name: "chatglm2",
    description: "ChatGLM2 and ChatGLM3: RMS norms, gated feed-forward layers and few heads of keys, for `causal_lm`",
    version: 1,
    shares_second_version: false,
    attention: &[AttentionPattern::Causal],
    form: AnswerForm::Chatglm2,
    chat: Some(ChatFormat::Chatglm2),
    config: ConfigPattern { model_types: &["chatglm"], keys: &[] },
    // As `ChatGLMForConditionalGeneration` has it.
    on_disk: OnDisk {
        prefix: "transformer.",
        prefixed: true,
        ignored: &["rotary_pos_emb.inv_freq"],
        prefix_tuning: PrefixTuning::Encoder,
        ..OnDisk::PLAIN
    },
    token_keys: &[("eos_token_id", Special::Sep), ("pad_token_id", Special::Pad)],
    dropout_keys: &["hidden_dropout", "attention_dropout"],
    classifier: None,
    code: FamilyCode::of::<Chatglm2Config>(),
};

/// The original's code drops nothing of embeddings.
const DROPOUT: DropoutKeys = [("", 0.0), ("attention_dropout", 0.0), ("hidden_dropout", 0.0)];

const NAMES: LayerNames = LayerNames {
    layers: "encoder.layers",
    attention_norm: "input_layernorm",
    dense: "self_attention.dense",
    feed_forward_norm: "post_attention_layernorm",
    up: "mlp.dense_h_to_4h",
    down: "mlp.dense_4h_to_h",
};

/// What angles fall off by where `rope_ratio` is 1.
const BASE: f64 = 1e4;

/// The keys of `config.json` that matter, under the original's names.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub struct Chatglm2Config {
    /// Entries of the vocabulary.
    pub padded_vocab_size: usize,
    /// Width of the hidden states.
    pub hidden_size: usize,
    /// Layers.
    pub num_layers: usize,
    /// Heads of queries.
    pub num_attention_heads: usize,
    /// Whether there are fewer heads of keys than of queries.
    #[serde(default)]
    pub multi_query_attention: bool,
    /// How many, if so.
    #[serde(default = "one")]
    pub multi_query_group_num: usize,
    /// Dimensions of a head.
    pub kv_channels: usize,
    /// Width of the feed-forward layer.
    pub ffn_hidden_size: usize,
    /// The longest sequence.
    pub seq_length: usize,
    /// Added to variances.
    #[serde(default = "epsilon")]
    pub layernorm_epsilon: f64,
    /// RMS norms, or layer norms.
    #[serde(default = "yes")]
    pub rmsnorm: bool,
    /// Whether there is a norm behind the last layer.
    #[serde(default = "yes")]
    pub post_layer_norm: bool,
    /// Whether the residual stream goes on from behind the norms.
    #[serde(default)]
    pub apply_residual_connection_post_layernorm: bool,
    /// Whether linear layers have a bias.
    #[serde(default)]
    pub add_bias_linear: bool,
    /// Whether the projection to queries, keys and values has one in any case.
    #[serde(default)]
    pub add_qkv_bias: bool,
    /// Factor on what the rotary angles fall off by; 1 where nothing is said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rope_ratio: Option<f64>,
    /// Standard deviation of new weights; 0.02 where nothing is said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub initializer_range: Option<f64>,
    /// What else there was; it's written again.
    #[serde(flatten)]
    pub other: Map<String, Value>,
}

fn one() -> usize {
    1
}

fn yes() -> bool {
    true
}

fn epsilon() -> f64 {
    1e-5
}

impl Chatglm2Config {
    fn check(&self) -> Result<()> {
        self.attention_sizes().check()?;
        RopeSettings::of(&self.other)?.check(self.rope_base(), 0.5)?;
        // `tie_word_embeddings` may say anything: the original's class has a head of its own in any case.
        check_settings(&self.other, &[("prefix_projection", json!(false))])
    }

    fn attention_sizes(&self) -> AttentionSizes {
        AttentionSizes {
            hidden: self.hidden_size,
            heads: self.num_attention_heads,
            kv_heads: if self.multi_query_attention { self.multi_query_group_num } else { self.num_attention_heads },
            head_size: Some(self.kv_channels),
            rotary: true,
        }
    }

    fn rope_base(&self) -> f64 {
        BASE * self.rope_ratio.unwrap_or(1.0)
    }

    fn initializer_range(&self) -> f64 {
        self.initializer_range.unwrap_or_else(initializer_range)
    }

    fn layer(&self) -> LayerDesign {
        let size = self.kv_channels;
        let rotation = Rotation {
            base: self.rope_base(),
            pairs: size / 4,
            layout: RotaryPairs::Interleaved,
            offset: 0,
            half: false,
        };
        let projection = "self_attention.query_key_value";
        LayerDesign {
            names: &NAMES,
            hidden: self.hidden_size,
            attention: AttentionDesign {
                heads: self.num_attention_heads,
                kv_heads: self.attention_sizes().kv_heads,
                size,
                projection: match self.multi_query_attention {
                    true => Projection::Stacked(projection),
                    false => Projection::PerHead(projection),
                },
                bias: self.add_bias_linear || self.add_qkv_bias,
                rotary: vec![RotaryEmbedding { rotation, along: Along::Positions }],
            },
            feed_forward: self.ffn_hidden_size,
            activation: Activation::SwiGlu,
            bias: self.add_bias_linear,
            norm: match self.rmsnorm {
                true => NormKind::Rms(self.layernorm_epsilon),
                false => NormKind::Layer(self.layernorm_epsilon),
            },
            placement: match self.apply_residual_connection_post_layernorm {
                true => NormPlacement::DeepNorm(1.0),
                false => NormPlacement::Pre,
            },
            deviation: self.initializer_range(),
            last_deviation: LayerDesign::scaled_deviation(self.initializer_range(), self.num_layers),
        }
    }
}

impl ModelConfig for Chatglm2Config {
    type Settings = GroupedQuery;

    // Newer editions have both names of each.
    const OTHER_NAMES: &'static [(&'static str, &'static str)] =
        &[("num_hidden_layers", "num_layers"), ("vocab_size", "padded_vocab_size")];

    fn new(settings: &GroupedQuery, vocabulary: usize) -> Self {
        Self {
            padded_vocab_size: vocabulary,
            hidden_size: settings.hidden,
            num_layers: settings.layers,
            num_attention_heads: settings.heads,
            multi_query_attention: true,
            multi_query_group_num: settings.kv_heads,
            kv_channels: settings.attention().head_size(),
            ffn_hidden_size: settings.feed_forward(),
            seq_length: settings.max_length,
            layernorm_epsilon: epsilon(),
            rmsnorm: true,
            post_layer_norm: true,
            apply_residual_connection_post_layernorm: false,
            add_bias_linear: false,
            add_qkv_bias: true,
            rope_ratio: (settings.rope_base != BASE).then_some(settings.rope_base / BASE),
            initializer_range: Some(settings.initializer_range),
            other: Map::new(),
        }
    }

    fn build(mut self, builder: &mut Builder) -> Result<Box<dyn Architecture>> {
        self.check()?;
        set_quantization_aside(&mut self.other)?;
        // A prefix is an adapter here, and says itself how long it is.
        if let Some(length) = self.other.get_mut(PREFIX_LENGTH) {
            *length = Value::Null;
        }
        let layer = self.layer();
        let initial = Initial::Normal(self.initializer_range());
        let table = [self.padded_vocab_size, self.hidden_size];
        let words = builder.table("embedding.word_embeddings.weight".into(), table, initial);
        let layers = Backbone::layers(builder, &layer, self.num_layers);
        let norm = "encoder.final_layernorm";
        let final_norm = self.post_layer_norm.then(|| Norm::new(builder, norm, self.hidden_size, layer.norm));
        let output =
            builder.in_role(WeightRole::Head, |builder| builder.table("output_layer.weight".into(), table, initial));
        let code = |class: &str| json!(format!("THUDM/chatglm2-6b--modeling_chatglm.{class}"));
        let defaults = json!({
            "model_type": "chatglm",
            "auto_map": {
                "AutoConfig": "THUDM/chatglm2-6b--configuration_chatglm.ChatGLMConfig",
                "AutoModel": code("ChatGLMForConditionalGeneration"),
                "AutoModelForCausalLM": code("ChatGLMForConditionalGeneration"),
                "AutoModelForSeq2SeqLM": code("ChatGLMForConditionalGeneration"),
            },
            "apply_query_key_layer_scaling": true,
            "attention_dropout": 0.0,
            "attention_softmax_in_fp32": true,
            "bias_dropout_fusion": true,
            "fp32_residual_connection": false,
            "hidden_dropout": 0.0,
            "original_rope": true,
            "tie_word_embeddings": false,
            "torch_dtype": "float32",
            "use_cache": true,
        });
        Ok(Box::new(SingleStack {
            sizes: Sizes {
                hidden: self.hidden_size,
                layers: self.num_layers,
                vocabulary: self.padded_vocab_size,
                max_length: self.seq_length,
                positions: None,
                initializer_range: self.initializer_range(),
            },
            class_name: "ChatGLMModel",
            config: config_json(json!(self), defaults),
            dropout: Some(&DROPOUT),
            is_causal: true,
            backbone: Backbone::rotary(words, layers, final_norm),
            output,
            has_head: true,
        }))
    }
}
