//! GLM (Du et al. 2022, <https://arxiv.org/abs/2103.10360>): a pre-norm transformer with two learned positions and
//! logits from the embedding table, following the training code, which has GELU's tanh form.

use anyhow::{Result, ensure};
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::sizes::MultiHead;
use crate::{
    network::{
        kernels::Gelu,
        model::{
            Along, AnswerForm, Architecture, AttentionPattern, AttentionSizes, Builder, ConfigPattern, DropoutKeys,
            Family, FamilyCode, Initial, ModelConfig, OnDisk, SingleStack, Sizes,
            blocks::{
                Activation, AttentionDesign, Backbone, LayerDesign, LayerNames, Norm, NormKind, NormPlacement,
                Projection,
            },
            config::initializer_range,
        },
    },
    spec::ChatFormat,
};

/// GLM.
pub static FAMILY: Family = Family {
    name: "glm",
    description: "GLM: pre-norm transformer with learned 2D positions, for every objective",
    version: 1,
    shares_second_version: false,
    attention: AttentionPattern::ALL,
    form: AnswerForm::Infilling,
    chat: Some(ChatFormat::Chatglm),
    // Hugging Face's GLM-4 has the same model_type.
    config: ConfigPattern { model_types: &["glm"], keys: &["block_position_encoding", "max_sequence_length"] },
    // Hugging Face's classes with a head put `glm.` before the names.
    on_disk: OnDisk { prefix: "glm.", prefixed: false, ..OnDisk::PLAIN },
    token_keys: &[],
    dropout_keys: &["embedding_dropout_prob", "attention_dropout_prob", "output_dropout_prob"],
    classifier: None,
    code: FamilyCode::of::<GlmConfig>(),
};

const DROPOUT: DropoutKeys =
    [("embedding_dropout_prob", 0.1), ("attention_dropout_prob", 0.1), ("output_dropout_prob", 0.1)];

const NAMES: LayerNames = LayerNames {
    layers: "transformer.layers",
    attention_norm: "input_layernorm",
    dense: "attention.dense",
    feed_forward_norm: "post_attention_layernorm",
    up: "mlp.dense_h_to_4h",
    down: "mlp.dense_4h_to_h",
};

/// The training code's; no config names the epsilon.
const NORM: NormKind = NormKind::Layer(1e-5);

/// The keys of `config.json` that matter, under the names that THUDM's converter writes.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub struct GlmConfig {
    /// Entries of the vocabulary.
    pub vocab_size: usize,
    /// Width of the hidden states.
    pub hidden_size: usize,
    /// Layers.
    pub num_layers: usize,
    /// Attention heads.
    pub num_attention_heads: usize,
    /// Width of the feed-forward layer; four times `hidden_size` where it's not given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub inner_hidden_size: Option<usize>,
    /// The longest sequence; both tables of positions have one row more.
    pub max_sequence_length: usize,
    /// Standard deviation of new weights.
    #[serde(default = "initializer_range")]
    pub initializer_range: f64,
    /// Dropout of embeddings.
    #[serde(default = "dropout")]
    pub embedding_dropout_prob: f64,
    /// Dropout of attention.
    #[serde(default = "dropout")]
    pub attention_dropout_prob: f64,
    /// Dropout of what branches add.
    #[serde(default = "dropout")]
    pub output_dropout_prob: f64,
    /// Factor on attention scores; only 1 is known.
    #[serde(default = "attention_scale")]
    pub attention_scale: f64,
    /// Whether positions are relative; they're not.
    #[serde(default)]
    pub relative_encoding: bool,
}

fn dropout() -> f64 {
    0.1
}

fn attention_scale() -> f64 {
    1.0
}

impl GlmConfig {
    fn check(&self) -> Result<()> {
        AttentionSizes::multi_head(self.hidden_size, self.num_attention_heads).check()?;
        ensure!(self.attention_scale == 1.0, "attention_scale {} isn't supported", self.attention_scale);
        ensure!(!self.relative_encoding, "relative_encoding isn't supported");
        Ok(())
    }

    fn layer(&self) -> LayerDesign {
        LayerDesign {
            names: &NAMES,
            hidden: self.hidden_size,
            attention: AttentionDesign::multi_head(
                self.hidden_size,
                self.num_attention_heads,
                Projection::Stacked("attention.query_key_value"),
            ),
            feed_forward: self.inner_hidden_size.unwrap_or(4 * self.hidden_size),
            activation: Activation::Gelu(Gelu::Tanh),
            bias: true,
            norm: NORM,
            placement: NormPlacement::Pre,
            deviation: self.initializer_range,
            last_deviation: LayerDesign::scaled_deviation(self.initializer_range, self.num_layers),
        }
    }
}

impl ModelConfig for GlmConfig {
    type Settings = MultiHead;

    fn new(settings: &MultiHead, vocabulary: usize) -> Self {
        Self {
            vocab_size: vocabulary,
            hidden_size: settings.hidden,
            num_layers: settings.layers,
            num_attention_heads: settings.heads,
            inner_hidden_size: settings.feed_forward.filter(|&size| size != 4 * settings.hidden),
            max_sequence_length: settings.max_length,
            initializer_range: settings.initializer_range,
            embedding_dropout_prob: dropout(),
            attention_dropout_prob: dropout(),
            output_dropout_prob: dropout(),
            attention_scale: 1.0,
            relative_encoding: false,
        }
    }

    fn build(self, builder: &mut Builder) -> Result<Box<dyn Architecture>> {
        self.check()?;
        let hidden = self.hidden_size;
        let initial = Initial::Normal(self.initializer_range);
        let words = builder.table("word_embeddings.weight".into(), [self.vocab_size, hidden], initial);
        // Both tables have one row more than the longest sequence has tokens.
        let rows = self.max_sequence_length + 1;
        let mut table = |name: &str| builder.table(format!("transformer.{name}.weight"), [rows, hidden], initial);
        let positions = (table("position_embeddings"), Along::Positions);
        let block_positions = (table("block_position_embeddings"), Along::BlockPositions);
        let layers = Backbone::layers(builder, &self.layer(), self.num_layers);
        let final_norm = Some(Norm::new(builder, "transformer.final_layernorm", hidden, NORM));
        let mut config = json!(self);
        config["model_type"] = json!("glm");
        config["block_position_encoding"] = json!(true);
        config["output_predict"] = json!(true);
        config["pool_token"] = json!("cls");
        config["torch_dtype"] = json!("float32");
        Ok(Box::new(SingleStack {
            sizes: Sizes {
                hidden,
                layers: self.num_layers,
                vocabulary: self.vocab_size,
                max_length: self.max_sequence_length,
                positions: Some(rows),
                initializer_range: self.initializer_range,
            },
            class_name: "GLMModel",
            config,
            dropout: Some(&DROPOUT),
            is_causal: false,
            backbone: Backbone {
                token_embedding: words,
                embeddings: vec![positions, block_positions],
                embedding_norm: None,
                layers,
                final_norm,
            },
            output: words,
            has_head: true,
        }))
    }
}
