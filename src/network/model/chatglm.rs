//! ChatGLM-6B, the first of the name (Zeng et al. 2022, <https://arxiv.org/abs/2210.02414>, made for chat): GLM with
//! DeepNorm and with rotary positions in two dimensions, of which one half of each head is turned by the position and
//! the other by the position within the answer.

use anyhow::{Result, ensure};
use burn::tensor::Tensor;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use super::{
    blocks::{
        Activation, Arrangement, AttentionDesign, Backbone, LayerDesign, LayerNames, Norm, NormKind, Projection, Turn,
    },
    family::{Family, Sizes, check_heads, check_settings, described},
    initial::Initial,
    on_disk::OnDisk,
    parameters::{Builder, MatrixId, Role, VectorId},
    pass::{Along, Pass},
};
use crate::{
    data::text::Special,
    network::kernels::{Gelu, Pairs, Rotation},
    spec,
};

/// As `ChatGLMForConditionalGeneration` has it: the head is stored beside the table that it's tied to.
pub(super) static ON_DISK: OnDisk = OnDisk {
    prefix: "transformer.",
    prefixed: true,
    ignored: &["rotary_emb.inv_freq", "lm_head.weight"],
    copies: &[("lm_head.weight", WORDS)],
    ..OnDisk::PLAIN
};

const WORDS: &str = "word_embeddings.weight";

const NAMES: LayerNames = LayerNames {
    layers: "layers",
    attention_norm: "input_layernorm",
    dense: "attention.dense",
    feed_forward_norm: "post_attention_layernorm",
    up: "mlp.dense_h_to_4h",
    down: "mlp.dense_4h_to_h",
};

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
    /// The sizes that a recipe asks for.
    pub fn new(spec: &spec::Sizes, vocabulary: usize) -> Self {
        Self {
            vocab_size: vocabulary,
            hidden_size: spec.hidden,
            num_layers: spec.layers,
            num_attention_heads: spec.heads,
            inner_hidden_size: spec.feed_forward.unwrap_or(4 * spec.hidden),
            max_sequence_length: spec.max_length,
            layernorm_epsilon: epsilon(),
            initializer_range: Some(spec.initializer_range),
            tie_word_embeddings: None,
            other: Map::new(),
        }
    }

    fn check(&self) -> Result<()> {
        check_heads(self.hidden_size, self.num_attention_heads)?;
        let size = self.hidden_size / self.num_attention_heads;
        ensure!(size.is_multiple_of(4), "heads of {size} numbers can't be turned by two positions: 4 must divide them");
        let known =
            [("position_encoding_2d", json!(true)), ("quantization_bit", json!(0)), ("pre_seq_len", Value::Null)];
        check_settings(&self.other, &known)
    }

    fn initializer_range(&self) -> f64 {
        self.initializer_range.unwrap_or(0.02)
    }

    fn layer(&self) -> LayerDesign {
        let (hidden, heads) = (self.hidden_size, self.num_attention_heads);
        let half = hidden / heads / 2;
        // The original keeps the angles in half precision.
        let rotation = |offset| Rotation { base: 1e4, pairs: half / 2, layout: Pairs::Halves, offset, half: true };
        let turns = vec![
            Turn { rotation: rotation(0), along: Along::Positions },
            Turn { rotation: rotation(half), along: Along::BlockPositions },
        ];
        let projection = Projection::PerHead("attention.query_key_value");
        LayerDesign {
            names: &NAMES,
            hidden,
            attention: AttentionDesign { turns, ..AttentionDesign::classic(hidden, heads, projection) },
            feed_forward: self.inner_hidden_size,
            activation: Activation::Gelu(Gelu::Tanh),
            bias: true,
            norm: NormKind::Layer(self.layernorm_epsilon),
            arrangement: Arrangement::Deep(ALPHA),
            deviation: self.initializer_range(),
            // GLM-130B's, section 2.1: what a branch adds starts as much smaller as the stream is weighted up.
            last_deviation: self.initializer_range() / ALPHA,
        }
    }
}

/// ChatGLM's blocks.
#[derive(Clone, Debug)]
pub struct Chatglm {
    config: ChatglmConfig,
    backbone: Backbone,
    output: MatrixId,
}

impl Chatglm {
    /// Adds the parameters of a ChatGLM.
    ///
    /// # Errors
    /// Heads of a size that doesn't fit; settings that aren't supported.
    pub fn new(config: ChatglmConfig, builder: &mut Builder) -> Result<Self> {
        config.check()?;
        let layer = config.layer();
        let initial = Initial::Normal(config.initializer_range());
        let table = [config.vocab_size, config.hidden_size];
        let words = builder.matrix(WORDS.into(), table, initial);
        let layers = Backbone::layers(builder, &layer, config.num_layers);
        let norm = Some(Norm::new(builder, "final_layernorm", config.hidden_size, layer.norm));
        let output = match config.tie_word_embeddings {
            Some(false) => {
                builder.in_role(Role::Head, |builder| builder.matrix("lm_head.weight".into(), table, initial))
            }
            _ => words,
        };
        let backbone = Backbone { words, tables: Vec::new(), embedding_norm: None, layers, norm };
        Ok(Self { config, backbone, output })
    }
}

impl Family for Chatglm {
    fn name(&self) -> &'static str {
        "chatglm"
    }

    fn sizes(&self) -> Sizes {
        Sizes {
            hidden: self.config.hidden_size,
            layers: self.config.num_layers,
            vocabulary: self.config.vocab_size,
            max_length: self.config.max_sequence_length,
            initializer_range: self.config.initializer_range(),
        }
    }

    fn is_rotary(&self) -> bool {
        true
    }

    fn on_disk(&self) -> &'static OnDisk {
        &ON_DISK
    }

    fn architecture(&self, _pairs: bool) -> &'static str {
        "ChatGLMModel"
    }

    fn config(&self) -> Value {
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
        described(json!(self.config), defaults)
    }

    fn token_keys(&self) -> &'static [(&'static str, Special)] {
        &[
            ("bos_token_id", Special::Sop),
            ("eos_token_id", Special::Eop),
            ("mask_token_id", Special::Mask),
            ("gmask_token_id", Special::Gmask),
            ("pad_token_id", Special::Pad),
        ]
    }

    fn hidden(&self, pass: &Pass) -> Tensor<2> {
        self.backbone.hidden(pass)
    }

    fn output(&self) -> (MatrixId, Option<VectorId>) {
        (self.output, None)
    }
}
