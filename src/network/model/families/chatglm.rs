//! ChatGLM-6B, the first of the name (Zeng et al. 2022, <https://arxiv.org/abs/2210.02414>, made for chat): GLM with
//! DeepNorm and with rotary positions in two dimensions, of which one half of each head is turned by the position and
//! the other by the position within the answer.

use anyhow::Result;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use super::sizes::MultiHead;
use crate::{
    data::text::Special,
    network::{
        kernels::{Gelu, RotaryPairs, Rotation},
        model::{
            Along, AnswerForm, Architecture, AttentionPattern, AttentionSizes, Builder, ConfigPattern, Family,
            FamilyCode, Initial, ModelConfig, ModelSettings, OnDisk, Output, PrefixTuning, RopeSettings, SingleStack,
            Sizes,
            blocks::{
                Activation, AttentionDesign, Backbone, LayerDesign, LayerNames, Norm, NormKind, NormPlacement,
                Projection, RotaryEmbedding,
            },
            config::{PREFIX_LENGTH, check_settings, config_json, initializer_range, set_quantization_aside},
        },
    },
    spec::ChatFormat,
};

/// ChatGLM-6B.
pub static FAMILY: Family = Family {
    name: "chatglm",
    description: "ChatGLM-6B, the first: DeepNorm and rotary 2D positions, for every objective",
    version: 1,
    shares_second_version: false,
    attention: AttentionPattern::ALL,
    form: AnswerForm::Chatglm,
    chat: Some(ChatFormat::Chatglm),
    // The later generations have the same model_type.
    config: ConfigPattern { model_types: &["chatglm"], keys: &["inner_hidden_size", "position_encoding_2d"] },
    // As `ChatGLMForConditionalGeneration` has it: the head is stored beside the table that it's tied to.
    on_disk: OnDisk {
        prefix: "transformer.",
        prefixed: true,
        ignored: &["rotary_emb.inv_freq", HEAD],
        copies: &[(HEAD, WORDS)],
        tied: &[&[HEAD, WORDS]],
        prefix_tuning: PrefixTuning::Encoder,
        ..OnDisk::PLAIN
    },
    token_keys: &[
        ("bos_token_id", Special::Sop),
        ("eos_token_id", Special::Eop),
        ("mask_token_id", Special::Mask),
        ("gmask_token_id", Special::Gmask),
        ("pad_token_id", Special::Pad),
    ],
    dropout_keys: &[],
    classifier: None,
    code: FamilyCode::of::<ChatglmConfig>(),
};

const WORDS: &str = "word_embeddings.weight";
const HEAD: &str = "lm_head.weight";

const NAMES: LayerNames = LayerNames {
    layers: "layers",
    attention_norm: "input_layernorm",
    dense: "attention.dense",
    feed_forward_norm: "post_attention_layernorm",
    up: "mlp.dense_h_to_4h",
    down: "mlp.dense_4h_to_h",
};

/// What angles fall off by.
const BASE: f64 = 1e4;

/// Weight of the residual stream in DeepNorm, the root of twice the layers: those of the 6B model, whatever a config
/// says, since the original code never passes its number of layers on.
const ALPHA: f64 = 7.483_314_773_547_883;

/// The keys of `config.json` that matter, under the original's names.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub struct ChatglmConfig {
    /// Entries of the vocabulary.
    pub vocab_size: usize,
    /// Width of the hidden states.
    pub hidden_size: usize,
    /// Layers.
    pub num_layers: usize,
    /// Attention heads.
    pub num_attention_heads: usize,
    /// Width of the feed-forward layer.
    pub inner_hidden_size: usize,
    /// The longest sequence.
    #[serde(default = "max_sequence_length")]
    pub max_sequence_length: usize,
    /// Added to variances.
    #[serde(default = "epsilon")]
    pub layernorm_epsilon: f64,
    /// Standard deviation of new weights; 0.02 where nothing is said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub initializer_range: Option<f64>,
    /// Whether the table of embeddings gives the logits too; it does where nothing is said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tie_word_embeddings: Option<bool>,
    /// What else there was; it's written again.
    #[serde(flatten)]
    pub other: Map<String, Value>,
}

fn max_sequence_length() -> usize {
    2048
}

fn epsilon() -> f64 {
    1e-5
}

impl ChatglmConfig {
    fn check(&self) -> Result<()> {
        let sizes = AttentionSizes::multi_head(self.hidden_size, self.num_attention_heads);
        AttentionSizes { rotary: true, ..sizes }.check()?;
        RopeSettings::of(&self.other)?.check(BASE, 1.0)?;
        let supported = [("position_encoding_2d", json!(true)), ("prefix_projection", json!(false))];
        check_settings(&self.other, &supported)
    }

    fn initializer_range(&self) -> f64 {
        self.initializer_range.unwrap_or_else(initializer_range)
    }

    fn layer(&self) -> LayerDesign {
        let (hidden, heads) = (self.hidden_size, self.num_attention_heads);
        let half = hidden / heads / 2;
        // The original keeps the angles in half precision.
        let rotation =
            |offset| Rotation { base: BASE, pairs: half / 2, layout: RotaryPairs::Halves, offset, half: true };
        let rotary = vec![
            RotaryEmbedding { rotation: rotation(0), along: Along::Positions },
            RotaryEmbedding { rotation: rotation(half), along: Along::BlockPositions },
        ];
        let projection = Projection::PerHead("attention.query_key_value");
        LayerDesign {
            names: &NAMES,
            hidden,
            attention: AttentionDesign { rotary, ..AttentionDesign::multi_head(hidden, heads, projection) },
            feed_forward: self.inner_hidden_size,
            activation: Activation::Gelu(Gelu::Tanh),
            bias: true,
            norm: NormKind::Layer(self.layernorm_epsilon),
            placement: NormPlacement::DeepNorm(ALPHA),
            deviation: self.initializer_range(),
            // GLM-130B's, section 2.1: what a branch adds starts as much smaller as the stream is weighted up.
            last_deviation: self.initializer_range() / ALPHA,
        }
    }
}

impl ModelConfig for ChatglmConfig {
    type Settings = MultiHead;

    const OTHER_NAMES: &'static [(&'static str, &'static str)] = &[("num_hidden_layers", "num_layers")];

    fn attention(settings: &MultiHead) -> AttentionSizes {
        AttentionSizes { rotary: true, ..settings.attention() }
    }

    fn new(settings: &MultiHead, vocabulary: usize) -> Self {
        Self {
            vocab_size: vocabulary,
            hidden_size: settings.hidden,
            num_layers: settings.layers,
            num_attention_heads: settings.heads,
            inner_hidden_size: settings.feed_forward.unwrap_or(4 * settings.hidden),
            max_sequence_length: settings.max_length,
            layernorm_epsilon: epsilon(),
            initializer_range: Some(settings.initializer_range),
            tie_word_embeddings: None,
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
        let table = [self.vocab_size, self.hidden_size];
        let tied = self.tie_word_embeddings.unwrap_or(true);
        let output = Output::find(builder, WORDS, HEAD, tied, None);
        if tied && !output.is_tied() {
            self.tie_word_embeddings = Some(false);
        }
        let words = builder.table(WORDS.into(), table, initial);
        let layers = Backbone::layers(builder, &layer, self.num_layers);
        let final_norm = Some(Norm::new(builder, "final_layernorm", self.hidden_size, layer.norm));
        let logits = output.matrix(builder, words, table, initial);
        let code = |class: &str| json!(format!("THUDM/chatglm-6b--modeling_chatglm.{class}"));
        let defaults = json!({
            "model_type": "chatglm",
            "auto_map": {
                "AutoConfig": "THUDM/chatglm-6b--configuration_chatglm.ChatGLMConfig",
                "AutoModel": code("ChatGLMForConditionalGeneration"),
                "AutoModelForSeq2SeqLM": code("ChatGLMForConditionalGeneration"),
            },
            "position_encoding_2d": true,
            "torch_dtype": "float32",
            "use_cache": true,
        });
        Ok(Box::new(SingleStack {
            sizes: Sizes {
                hidden: self.hidden_size,
                layers: self.num_layers,
                vocabulary: self.vocab_size,
                max_length: self.max_sequence_length,
                positions: None,
                initializer_range: self.initializer_range(),
            },
            class_name: "ChatGLMModel",
            config: config_json(json!(self), defaults),
            dropout: None,
            is_causal: false,
            backbone: Backbone::rotary(words, layers, final_norm),
            output: logits,
            has_head: output.exists(),
        }))
    }
}
