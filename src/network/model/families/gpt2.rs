//! GPT-2 (Radford et al. 2019): a pre-norm transformer with learned positions and logits from the embedding table.

use anyhow::Result;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use super::sizes::MultiHead;
use crate::{
    data::text::Special,
    network::model::{
        Along, AnswerForm, Architecture, AttentionPattern, AttentionSizes, Builder, ConfigPattern, DropoutKeys, Family,
        FamilyCode, Initial, ModelConfig, OnDisk, Output, PrefixTuning, SingleStack, Sizes,
        blocks::{
            Activation, AttentionDesign, Backbone, LayerDesign, LayerNames, Norm, NormKind, NormPlacement, Projection,
        },
        config::{check_settings, config_json, gelu, initializer_range},
    },
    spec::{ChatFormat, Pooling},
};

/// GPT-2.
pub static FAMILY: Family = Family {
    name: "gpt2",
    description: "GPT-2: pre-norm transformer that sees what came before, for `causal_lm`",
    version: 1,
    shares_second_version: false,
    attention: &[AttentionPattern::Causal],
    form: AnswerForm::Causal,
    chat: Some(ChatFormat::Chatglm2),
    config: ConfigPattern { model_types: &["gpt2"], keys: &[] },
    // As `GPT2LMHeadModel` has it, whose linear layers are convolutions of width 1, and the bare files of old.
    on_disk: OnDisk {
        prefix: "transformer.",
        prefixed: true,
        transposed: &["c_attn.weight", "c_proj.weight", "c_fc.weight"],
        ignored: &["lm_head.weight", "attn.bias", "attn.masked_bias"],
        tied: &[&["lm_head.weight", "wte.weight"]],
        prefix_tuning: PrefixTuning::Past,
        ..OnDisk::PLAIN
    },
    token_keys: &[("bos_token_id", Special::Cls), ("eos_token_id", Special::Eop)],
    dropout_keys: &["embd_pdrop", "attn_pdrop", "resid_pdrop"],
    classifier: Some(Pooling::Last),
    code: FamilyCode::of::<Gpt2Config>(),
};

const WORDS: &str = "wte.weight";
const HEAD: &str = "lm_head.weight";
/// What `GPT2ForSequenceClassification` has in its place.
const CLASSIFIER: &str = "score.weight";

const DROPOUT: DropoutKeys = [("embd_pdrop", 0.1), ("attn_pdrop", 0.1), ("resid_pdrop", 0.1)];

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
    /// Whether the table of embeddings gives the logits too; it does where nothing is said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tie_word_embeddings: Option<bool>,
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

impl Gpt2Config {
    fn check(&self) -> Result<()> {
        AttentionSizes::multi_head(self.n_embd, self.n_head).check()?;
        let supported = [
            ("add_cross_attention", json!(false)),
            ("scale_attn_weights", json!(true)),
            ("scale_attn_by_inverse_layer_idx", json!(false)),
        ];
        check_settings(&self.other, &supported)
    }

    fn layer(&self) -> Result<LayerDesign> {
        Ok(LayerDesign {
            names: &NAMES,
            hidden: self.n_embd,
            attention: AttentionDesign::multi_head(self.n_embd, self.n_head, Projection::Stacked("attn.c_attn")),
            feed_forward: self.n_inner.unwrap_or(4 * self.n_embd),
            activation: Activation::Gelu(gelu(&self.activation_function)?),
            bias: true,
            norm: NormKind::Layer(self.layer_norm_epsilon),
            placement: NormPlacement::Pre,
            deviation: self.initializer_range,
            last_deviation: LayerDesign::scaled_deviation(self.initializer_range, self.n_layer),
        })
    }
}

impl ModelConfig for Gpt2Config {
    type Settings = MultiHead;

    const OTHER_NAMES: &'static [(&'static str, &'static str)] = &[
        ("hidden_size", "n_embd"),
        ("max_position_embeddings", "n_positions"),
        ("num_attention_heads", "n_head"),
        ("num_hidden_layers", "n_layer"),
    ];

    fn new(settings: &MultiHead, vocabulary: usize) -> Self {
        Self {
            vocab_size: vocabulary,
            n_positions: settings.max_length,
            n_embd: settings.hidden,
            n_layer: settings.layers,
            n_head: settings.heads,
            n_inner: settings.feed_forward.filter(|&size| size != 4 * settings.hidden),
            activation_function: activation(),
            layer_norm_epsilon: epsilon(),
            initializer_range: settings.initializer_range,
            tie_word_embeddings: None,
            other: Map::new(),
        }
    }

    fn build(mut self, builder: &mut Builder) -> Result<Box<dyn Architecture>> {
        self.check()?;
        let layer = self.layer()?;
        let initial = Initial::Normal(self.initializer_range);
        let tied = self.tie_word_embeddings.unwrap_or(true);
        let output = Output::find(builder, WORDS, HEAD, tied, Some(CLASSIFIER));
        if tied && !output.is_tied() {
            self.tie_word_embeddings = Some(false);
        }
        let table = [self.vocab_size, self.n_embd];
        let words = builder.table(WORDS.into(), table, initial);
        let positions = builder.table("wpe.weight".into(), [self.n_positions, self.n_embd], initial);
        let layers = Backbone::layers(builder, &layer, self.n_layer);
        let final_norm = Some(Norm::new(builder, "ln_f", self.n_embd, layer.norm));
        let logits = output.matrix(builder, words, table, initial);
        let defaults = json!({
            "model_type": "gpt2",
            "embd_pdrop": 0.1,
            "attn_pdrop": 0.1,
            "resid_pdrop": 0.1,
            // Hugging Face's own would be past a small vocabulary.
            "bos_token_id": null,
            "eos_token_id": null,
        });
        Ok(Box::new(SingleStack {
            sizes: Sizes {
                hidden: self.n_embd,
                layers: self.n_layer,
                vocabulary: self.vocab_size,
                max_length: self.n_positions,
                positions: Some(self.n_positions),
                initializer_range: self.initializer_range,
            },
            class_name: "GPT2LMHeadModel",
            config: config_json(json!(self), defaults),
            dropout: Some(&DROPOUT),
            is_causal: true,
            backbone: Backbone {
                token_embedding: words,
                embeddings: vec![(positions, Along::Positions)],
                embedding_norm: None,
                layers,
                final_norm,
            },
            output: logits,
            has_head: output.exists(),
        }))
    }
}
