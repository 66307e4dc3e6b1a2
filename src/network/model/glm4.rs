//! GLM-4 as Hugging Face has it (Zeng et al. 2024, <https://arxiv.org/abs/2406.12793>): ChatGLM2's architecture under
//! other names, with separate projections and, in the model called `glm4` there, a second norm around each branch. The
//! one without them is called `glm`.

use anyhow::{Result, ensure};
use burn::tensor::Tensor;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use super::{
    blocks::{
        Activation, Arrangement, AttentionDesign, Backbone, LayerDesign, LayerNames, Norm, NormKind, Projection, Turn,
    },
    family::{Family, Sizes, check_groups, check_settings, described},
    initial::Initial,
    on_disk::OnDisk,
    parameters::{Builder, MatrixId, Role, VectorId},
    pass::{Along, Pass},
};
use crate::{
    data::text::Special,
    network::kernels::{Pairs, Rotation},
    spec,
};

/// As `GlmForCausalLM` and `Glm4ForCausalLM` have it.
pub(super) static ON_DISK: OnDisk =
    OnDisk { prefix: "model.", prefixed: true, ignored: &["rotary_emb.inv_freq", "lm_head.weight"], ..OnDisk::PLAIN };

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
    /// Numbers a head; what the hidden states have for each where it's null.
    #[serde(default = "head_dim")]
    pub head_dim: Option<usize>,
    /// Width of the feed-forward layer.
    pub intermediate_size: usize,
    /// The longest sequence.
    pub max_position_embeddings: usize,
    /// Added to mean squares.
    #[serde(default = "epsilon")]
    pub rms_norm_eps: f64,
    /// Whether the projections to queries, keys and values have a bias.
    #[serde(default)]
    pub attention_bias: bool,
    /// Whether the table of embeddings gives the logits too.
    #[serde(default)]
    pub tie_word_embeddings: bool,
    /// Standard deviation of new weights.
    #[serde(default = "initializer_range")]
    pub initializer_range: f64,
    /// Rotary positions, as newer configs have them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rope_parameters: Option<Rope>,
    /// Rotary positions, as older configs have them.
    #[serde(flatten)]
    pub rope: Rope,
    /// What else there was; it's written again.
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

/// How far positions turn what.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
pub struct Rope {
    /// What the angles fall off by; 10000 where nothing is said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rope_theta: Option<f64>,
    /// The share of each head that is turned; a half where nothing is said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub partial_rotary_factor: Option<f64>,
    /// Only `default` is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rope_type: Option<String>,
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

fn initializer_range() -> f64 {
    0.02
}

impl Glm4Config {
    /// The sizes that a recipe asks for.
    pub fn new(spec: &spec::GroupedSizes, vocabulary: usize) -> Self {
        let rope = Rope { rope_theta: Some(spec.rope_base), partial_rotary_factor: Some(0.5), rope_type: None };
        Self {
            model_type: ModelType::Glm4,
            vocab_size: vocabulary,
            hidden_size: spec.hidden,
            num_hidden_layers: spec.layers,
            num_attention_heads: spec.heads,
            num_key_value_heads: spec.groups,
            head_dim: Some(spec.head_size()),
            intermediate_size: spec.feed_forward(),
            max_position_embeddings: spec.max_length,
            rms_norm_eps: 1e-5,
            attention_bias: true,
            tie_word_embeddings: false,
            initializer_range: spec.initializer_range,
            // Both, for whichever version of the library opens it.
            rope_parameters: Some(Rope { rope_type: Some("default".into()), ..rope.clone() }),
            rope,
            other: Map::new(),
        }
    }

    fn size(&self) -> usize {
        self.head_dim.unwrap_or(self.hidden_size / self.num_attention_heads.max(1))
    }

    fn rotation(&self) -> Result<Rotation> {
        let new = self.rope_parameters.clone().unwrap_or_default();
        let kind = new.rope_type.unwrap_or_else(|| "default".into());
        ensure!(kind == "default", "rope_type {kind} isn't supported");
        let share = new.partial_rotary_factor.or(self.rope.partial_rotary_factor).unwrap_or(0.5);
        let width = (self.size() as f64 * share) as usize;
        ensure!(
            width > 0 && width <= self.size() && width.is_multiple_of(2),
            "partial_rotary_factor {share} of heads of {} numbers can't be turned in pairs",
            self.size()
        );
        let base = new.rope_theta.or(self.rope.rope_theta).unwrap_or(1e4);
        Ok(Rotation { base, pairs: width / 2, layout: Pairs::Interleaved, offset: 0, half: false })
    }

    fn layer(&self) -> Result<LayerDesign> {
        check_groups(self.num_attention_heads, self.num_key_value_heads)?;
        check_settings(&self.other, &[("hidden_act", json!("silu")), ("rope_scaling", Value::Null)])?;
        Ok(LayerDesign {
            names: &NAMES,
            hidden: self.hidden_size,
            attention: AttentionDesign {
                heads: self.num_attention_heads,
                groups: self.num_key_value_heads,
                size: self.size(),
                projection: Projection::Separate(["self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"]),
                bias: self.attention_bias,
                turns: vec![Turn { rotation: self.rotation()?, along: Along::Positions }],
            },
            feed_forward: self.intermediate_size,
            activation: Activation::SwiGlu,
            bias: false,
            norm: NormKind::Rms(self.rms_norm_eps),
            arrangement: match self.model_type {
                ModelType::Glm => Arrangement::Pre,
                ModelType::Glm4 => Arrangement::Sandwich(AFTER),
            },
            deviation: self.initializer_range,
            last_deviation: LayerDesign::shared(self.initializer_range, self.num_hidden_layers),
        })
    }
}

/// GLM-4's blocks.
#[derive(Clone, Debug)]
pub struct Glm4 {
    config: Glm4Config,
    backbone: Backbone,
    output: MatrixId,
}

impl Glm4 {
    /// Adds the parameters of a GLM-4.
    ///
    /// # Errors
    /// Groups that don't divide the heads; settings that aren't supported.
    pub fn new(config: Glm4Config, builder: &mut Builder) -> Result<Self> {
        let layer = config.layer()?;
        let initial = Initial::Normal(config.initializer_range);
        let table = [config.vocab_size, config.hidden_size];
        let words = builder.matrix("embed_tokens.weight".into(), table, initial);
        let layers = Backbone::layers(builder, &layer, config.num_hidden_layers);
        let norm = Some(Norm::new(builder, "norm", config.hidden_size, layer.norm));
        let output = match config.tie_word_embeddings {
            true => words,
            false => builder.in_role(Role::Head, |builder| builder.matrix("lm_head.weight".into(), table, initial)),
        };
        let backbone = Backbone { words, tables: Vec::new(), embedding_norm: None, layers, norm };
        Ok(Self { config, backbone, output })
    }
}

impl Family for Glm4 {
    fn name(&self) -> &'static str {
        "glm4"
    }

    fn sizes(&self) -> Sizes {
        Sizes {
            hidden: self.config.hidden_size,
            layers: self.config.num_hidden_layers,
            vocabulary: self.config.vocab_size,
            max_length: self.config.max_position_embeddings,
            initializer_range: self.config.initializer_range,
        }
    }

    fn is_rotary(&self) -> bool {
        true
    }

    fn on_disk(&self) -> &'static OnDisk {
        &ON_DISK
    }

    fn architecture(&self, _pairs: bool) -> &'static str {
        match self.config.model_type {
            ModelType::Glm => "GlmForCausalLM",
            ModelType::Glm4 => "Glm4ForCausalLM",
        }
    }

    fn config(&self) -> Value {
        let defaults = json!({
            "hidden_act": "silu",
            "attention_dropout": 0.0,
            "use_cache": true,
            // Hugging Face's own would be past a small vocabulary.
            "eos_token_id": null,
            "pad_token_id": null,
        });
        described(json!(self.config), defaults)
    }

    fn token_keys(&self) -> &'static [(&'static str, Special)] {
        &[("eos_token_id", Special::Sep), ("pad_token_id", Special::Pad)]
    }

    fn is_causal(&self) -> bool {
        true
    }

    fn hidden(&self, pass: &Pass) -> Tensor<2> {
        self.backbone.hidden(pass)
    }

    fn output(&self) -> (MatrixId, Option<VectorId>) {
        (self.output, None)
    }
}
