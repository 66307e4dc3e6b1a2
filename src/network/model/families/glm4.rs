//! GLM-4 as Hugging Face has it (Zeng et al. 2024, <https://arxiv.org/abs/2406.12793>): ChatGLM2's architecture under
//! other names, with separate projections and, in the model called `glm4` there, a second norm around each branch. The
//! one without them is called `glm`.

use anyhow::{Result, ensure};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use super::sizes::GroupedQuery;
use crate::{
    data::text::Special,
    network::{
        kernels::{RotaryPairs, Rotation},
        model::{
            Along, AnswerForm, Architecture, AttentionPattern, AttentionSizes, Builder, ConfigPattern, DropoutKeys,
            Family, FamilyCode, Initial, ModelConfig, ModelSettings, OnDisk, Output, PrefixTuning, RopeSettings,
            SingleStack, Sizes,
            blocks::{
                Activation, AttentionDesign, Backbone, LayerDesign, LayerNames, Norm, NormKind, NormPlacement,
                Projection, RotaryEmbedding,
            },
            config::{check_settings, config_json, initializer_range},
        },
    },
    spec::{ChatFormat, Pooling},
};

/// GLM-4.
pub static FAMILY: Family = Family {
    name: "glm4",
    description: "GLM-4 as Hugging Face has it: like `chatglm2`, with norms around each branch, for `causal_lm`",
    version: 1,
    shares_second_version: false,
    attention: &[AttentionPattern::Causal],
    form: AnswerForm::Chatglm2,
    chat: Some(ChatFormat::Glm4),
    // The original GLM is a `glm`, too.
    config: ConfigPattern { model_types: &["glm", "glm4"], keys: &[] },
    // As `GlmForCausalLM` and `Glm4ForCausalLM` have it.
    on_disk: OnDisk {
        prefix: "model.",
        prefixed: true,
        ignored: &["rotary_emb.inv_freq", "lm_head.weight"],
        tied: &[&["lm_head.weight", "embed_tokens.weight"]],
        prefix_tuning: PrefixTuning::Past,
        ..OnDisk::PLAIN
    },
    token_keys: &[("eos_token_id", Special::Sep), ("pad_token_id", Special::Pad)],
    dropout_keys: &["attention_dropout"],
    classifier: Some(Pooling::Last),
    code: FamilyCode::of::<Glm4Config>(),
};

const WORDS: &str = "embed_tokens.weight";
const HEAD: &str = "lm_head.weight";
/// What classes for sequence classification have in its place.
const CLASSIFIER: &str = "score.weight";

/// Hugging Face's code drops nothing but of attention.
const DROPOUT: DropoutKeys = [("", 0.0), ("attention_dropout", 0.0), ("", 0.0)];

const NAMES: LayerNames = LayerNames {
    layers: "layers",
    attention_norm: "input_layernorm",
    dense: "self_attn.o_proj",
    feed_forward_norm: "post_attention_layernorm",
    up: "mlp.gate_up_proj",
    down: "mlp.down_proj",
};

/// The norms behind the branches.
const AFTER: [&str; 2] = ["post_self_attn_layernorm", "post_mlp_layernorm"];

/// The keys of `config.json` that matter, under Hugging Face's names.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub struct Glm4Config {
    /// Which of the two.
    pub model_type: ModelType,
    /// Entries of the vocabulary.
    pub vocab_size: usize,
    /// Width of the hidden states.
    pub hidden_size: usize,
    /// Layers.
    pub num_hidden_layers: usize,
    /// Heads of queries.
    pub num_attention_heads: usize,
    /// Heads of keys and values.
    #[serde(default = "two")]
    pub num_key_value_heads: usize,
    /// Dimensions of a head; what the hidden states have for each where it's null.
    #[serde(default = "head_dim")]
    pub head_dim: Option<usize>,
    /// Width of the feed-forward layer.
    pub intermediate_size: usize,
    /// The longest sequence.
    pub max_position_embeddings: usize,
    /// Added to mean squares.
    #[serde(default = "epsilon")]
    pub rms_norm_eps: f64,
    /// Whether the projections to queries, keys and values have a bias; they do where nothing is said.
    #[serde(default = "yes")]
    pub attention_bias: bool,
    /// Whether the table of embeddings gives the logits too.
    #[serde(default)]
    pub tie_word_embeddings: bool,
    /// Standard deviation of new weights.
    #[serde(default = "initializer_range")]
    pub initializer_range: f64,
    /// What else there was, rotary positions among it; it's written again.
    #[serde(flatten)]
    pub other: Map<String, Value>,
}

/// What Hugging Face calls the two models.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum ModelType {
    /// With a norm before each branch.
    Glm,
    /// With one behind it too.
    Glm4,
}

fn yes() -> bool {
    true
}

fn two() -> usize {
    2
}

fn head_dim() -> Option<usize> {
    Some(128)
}

fn epsilon() -> f64 {
    1.562_5e-7
}

impl Glm4Config {
    fn attention_sizes(&self) -> AttentionSizes {
        let size = self.head_dim.unwrap_or(self.hidden_size / self.num_attention_heads.max(1));
        AttentionSizes {
            hidden: self.hidden_size,
            heads: self.num_attention_heads,
            kv_heads: self.num_key_value_heads,
            head_size: Some(size),
            // The share of a head that is rotated is a setting here: see `rotation`.
            rotary: false,
        }
    }

    fn rotation(&self) -> Result<Rotation> {
        let rope = RopeSettings::of(&self.other)?;
        let share = rope.partial_rotary_factor.unwrap_or(0.5);
        let size = self.attention_sizes().head_size();
        let width = (size as f64 * share) as usize;
        ensure!(
            width > 0 && width <= size && width.is_multiple_of(2),
            "a partial_rotary_factor of {share} rotates {width} dimensions of heads of {size}; rotary embeddings need \
             an even number"
        );
        let base = rope.theta.unwrap_or(1e4);
        Ok(Rotation { base, pairs: width / 2, layout: RotaryPairs::Interleaved, offset: 0, half: false })
    }

    fn layer(&self) -> Result<LayerDesign> {
        let sizes = self.attention_sizes();
        sizes.check()?;
        check_settings(&self.other, &[("hidden_act", json!("silu"))])?;
        Ok(LayerDesign {
            names: &NAMES,
            hidden: self.hidden_size,
            attention: AttentionDesign {
                heads: sizes.heads,
                kv_heads: sizes.kv_heads,
                size: sizes.head_size(),
                projection: Projection::Separate(["self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"]),
                bias: self.attention_bias,
                rotary: vec![RotaryEmbedding { rotation: self.rotation()?, along: Along::Positions }],
            },
            feed_forward: self.intermediate_size,
            activation: Activation::SwiGlu,
            bias: false,
            norm: NormKind::Rms(self.rms_norm_eps),
            placement: match self.model_type {
                ModelType::Glm => NormPlacement::Pre,
                ModelType::Glm4 => NormPlacement::Sandwich(AFTER),
            },
            deviation: self.initializer_range,
            last_deviation: LayerDesign::scaled_deviation(self.initializer_range, self.num_hidden_layers),
        })
    }
}

impl ModelConfig for Glm4Config {
    type Settings = GroupedQuery;

    fn new(settings: &GroupedQuery, vocabulary: usize) -> Self {
        // In both forms, for whichever version of the library opens it.
        let mut rope = Map::new();
        rope.insert("rope_theta".into(), json!(settings.rope_base));
        rope.insert("partial_rotary_factor".into(), json!(0.5));
        let mut other = rope.clone();
        rope.insert("rope_type".into(), json!("default"));
        other.insert("rope_parameters".into(), Value::Object(rope));
        Self {
            model_type: ModelType::Glm4,
            vocab_size: vocabulary,
            hidden_size: settings.hidden,
            num_hidden_layers: settings.layers,
            num_attention_heads: settings.heads,
            num_key_value_heads: settings.kv_heads,
            head_dim: Some(settings.attention().head_size()),
            intermediate_size: settings.feed_forward(),
            max_position_embeddings: settings.max_length,
            rms_norm_eps: 1e-5,
            attention_bias: true,
            tie_word_embeddings: false,
            initializer_range: settings.initializer_range,
            other,
        }
    }

    fn build(mut self, builder: &mut Builder) -> Result<Box<dyn Architecture>> {
        let layer = self.layer()?;
        let initial = Initial::Normal(self.initializer_range);
        let table = [self.vocab_size, self.hidden_size];
        let output = Output::find(builder, WORDS, HEAD, self.tie_word_embeddings, Some(CLASSIFIER));
        self.tie_word_embeddings &= output.is_tied();
        let words = builder.table(WORDS.into(), table, initial);
        let layers = Backbone::layers(builder, &layer, self.num_hidden_layers);
        let final_norm = Some(Norm::new(builder, "norm", self.hidden_size, layer.norm));
        let logits = output.matrix(builder, words, table, initial);
        let defaults = json!({
            "hidden_act": "silu",
            "attention_dropout": 0.0,
            "use_cache": true,
            // Hugging Face's own would be past a small vocabulary.
            "eos_token_id": null,
            "pad_token_id": null,
        });
        Ok(Box::new(SingleStack {
            sizes: Sizes {
                hidden: self.hidden_size,
                layers: self.num_hidden_layers,
                vocabulary: self.vocab_size,
                max_length: self.max_position_embeddings,
                positions: None,
                initializer_range: self.initializer_range,
            },
            class_name: match self.model_type {
                ModelType::Glm => "GlmForCausalLM",
                ModelType::Glm4 => "Glm4ForCausalLM",
            },
            config: config_json(json!(self), defaults),
            dropout: Some(&DROPOUT),
            is_causal: true,
            backbone: Backbone::rotary(words, layers, final_norm),
            output: logits,
            has_head: output.exists(),
        }))
    }
}
