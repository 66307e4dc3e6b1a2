//! BERT (Devlin et al. 2019, <https://arxiv.org/abs/1810.04805>): a post-norm transformer with learned positions and
//! segments, and a head that guesses masked tokens from the embedding table.

use anyhow::{Result, ensure};
use burn::tensor::Tensor;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use super::sizes::MultiHead;
use crate::{
    data::text::Special,
    network::{
        batch::Batch,
        kernels::Gelu,
        model::{
            Along, AnswerForm, Architecture, AttentionPattern, AttentionSizes, Builder, ConfigPattern, DropoutRates,
            Family, FamilyCode, Initial, ModelConfig, OnDisk, Output, Pass, PrefixTuning, Sizes, VectorId, WeightId,
            architecture::{check_positions, check_tokens},
            blocks::{
                Activation, AttentionDesign, Backbone, LayerDesign, LayerNames, Linear, Norm, NormKind, NormPlacement,
                Projection,
            },
            config::{check_settings, config_json, gelu, initializer_range},
        },
    },
    spec::Pooling,
};

/// BERT.
pub static FAMILY: Family = Family {
    name: "bert",
    description: "BERT: post-norm transformer that sees both directions, for `masked_lm` and sentence pairs",
    version: 1,
    shares_second_version: false,
    attention: &[AttentionPattern::Bidirectional],
    form: AnswerForm::Cloze,
    chat: None,
    config: ConfigPattern { model_types: &["bert"], keys: &[] },
    // As `BertForPreTraining` has it, and bare or old files too.
    on_disk: OnDisk {
        prefix: "bert.",
        prefixed: true,
        stacked: &[("self.query_key_value", &["self.query", "self.key", "self.value"])],
        formerly: &[("LayerNorm.weight", "LayerNorm.gamma"), ("LayerNorm.bias", "LayerNorm.beta")],
        ignored: &["embeddings.position_ids", DECODER, DECODER_BIAS, BIAS],
        tied: &[&[DECODER, "embeddings.word_embeddings.weight"], &[DECODER_BIAS, BIAS]],
        prefix_tuning: PrefixTuning::Past,
        ..OnDisk::PLAIN
    },
    token_keys: &[("pad_token_id", Special::Pad)],
    dropout_keys: &["hidden_dropout_prob", "attention_probs_dropout_prob"],
    classifier: Some(Pooling::First),
    code: FamilyCode::of::<BertConfig>(),
};

const WORDS: &str = "embeddings.word_embeddings.weight";
/// The head's matrix and bias, and what the latter is tied to.
const DECODER: &str = "cls.predictions.decoder.weight";
const DECODER_BIAS: &str = "cls.predictions.decoder.bias";
const BIAS: &str = "cls.predictions.bias";

const NAMES: LayerNames = LayerNames {
    layers: "encoder.layer",
    attention_norm: "attention.output.LayerNorm",
    dense: "attention.output.dense",
    feed_forward_norm: "output.LayerNorm",
    up: "intermediate.dense",
    down: "output.dense",
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
    /// Whether the table of embeddings gives the logits too; it does where nothing is said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tie_word_embeddings: Option<bool>,
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

impl BertConfig {
    fn check(&self) -> Result<()> {
        AttentionSizes::multi_head(self.hidden_size, self.num_attention_heads).check()?;
        let supported = [
            ("is_decoder", json!(false)),
            ("add_cross_attention", json!(false)),
            ("position_embedding_type", json!("absolute")),
        ];
        check_settings(&self.other, &supported)
    }

    fn layer(&self) -> Result<LayerDesign> {
        Ok(LayerDesign {
            names: &NAMES,
            hidden: self.hidden_size,
            attention: AttentionDesign::multi_head(
                self.hidden_size,
                self.num_attention_heads,
                Projection::Stacked("attention.self.query_key_value"),
            ),
            feed_forward: self.intermediate_size,
            activation: Activation::Gelu(gelu(&self.hidden_act)?),
            bias: true,
            norm: NormKind::Layer(self.layer_norm_eps),
            placement: NormPlacement::Post,
            deviation: self.initializer_range,
            last_deviation: self.initializer_range,
        })
    }
}

impl ModelConfig for BertConfig {
    type Settings = MultiHead;

    fn new(settings: &MultiHead, vocabulary: usize) -> Self {
        Self {
            vocab_size: vocabulary,
            hidden_size: settings.hidden,
            num_hidden_layers: settings.layers,
            num_attention_heads: settings.heads,
            intermediate_size: settings.feed_forward.unwrap_or(4 * settings.hidden),
            max_position_embeddings: settings.max_length,
            type_vocab_size: segments(),
            hidden_act: activation(),
            layer_norm_eps: epsilon(),
            initializer_range: settings.initializer_range,
            tie_word_embeddings: None,
            other: Map::new(),
        }
    }

    fn build(mut self, builder: &mut Builder) -> Result<Box<dyn Architecture>> {
        self.check()?;
        let layer = self.layer()?;
        let hidden = self.hidden_size;
        let tied = self.tie_word_embeddings.unwrap_or(true);
        // Of the bias, too, the one is used that stands beside the weight.
        let bias = if builder.ties(BIAS, DECODER_BIAS) { BIAS } else { DECODER_BIAS };
        let has_head = builder.has(BIAS);
        let decoder = Output::find(builder, WORDS, DECODER, tied, None);
        if tied && !decoder.is_tied() {
            self.tie_word_embeddings = Some(false);
        }
        let mut table = |name: &str, rows: usize| {
            let name = format!("embeddings.{name}_embeddings.weight");
            builder.table(name, [rows, hidden], Initial::Normal(self.initializer_range))
        };
        let token_embedding = table("word", self.vocab_size);
        let positions = (table("position", self.max_position_embeddings), Along::Positions);
        let segments = (table("token_type", self.type_vocab_size), Along::Segments);
        let embedding_norm = Some(Norm::new(builder, "embeddings.LayerNorm", hidden, layer.norm));
        let layers = Backbone::layers(builder, &layer, self.num_hidden_layers);
        let embeddings = vec![positions, segments];
        let backbone = Backbone { token_embedding, embeddings, embedding_norm, layers, final_norm: None };
        let head = match has_head {
            true => {
                let head = Head::new(&self, builder, bias)?;
                let shape = [self.vocab_size, hidden];
                let initial = Initial::Normal(self.initializer_range);
                Some((head, decoder.matrix(builder, token_embedding, shape, initial)))
            }
            false => None,
        };
        Ok(Box::new(Bert { config: self, backbone, head }))
    }
}

/// BERT's blocks.
#[derive(Clone, Debug)]
struct Bert {
    config: BertConfig,
    backbone: Backbone,
    /// What stands behind the hidden states, and the matrix that gives logits; bare checkpoints have none.
    head: Option<(Head, WeightId)>,
}

/// What stands between the hidden states and the embedding table.
#[derive(Clone, Debug)]
struct Head {
    dense: Linear,
    gelu: Gelu,
    norm: Norm,
    bias: VectorId,
}

impl Head {
    fn new(config: &BertConfig, builder: &mut Builder, bias: &str) -> Result<Self> {
        let (hidden, norm) = (config.hidden_size, NormKind::Layer(config.layer_norm_eps));
        let name = |part: &str| format!("cls.predictions.{part}");
        let dense = name("transform.dense");
        Ok(Self {
            dense: Linear::new(builder, &dense, [hidden, hidden], true, config.initializer_range),
            gelu: gelu(&config.hidden_act)?,
            norm: Norm::new(builder, &name("transform.LayerNorm"), hidden, norm),
            bias: builder.vector(bias.to_owned(), config.vocab_size, Initial::Zeros),
        })
    }
}

impl Architecture for Bert {
    fn sizes(&self) -> Sizes {
        Sizes {
            hidden: self.config.hidden_size,
            layers: self.config.num_hidden_layers,
            vocabulary: self.config.vocab_size,
            max_length: self.config.max_position_embeddings,
            positions: Some(self.config.max_position_embeddings),
            initializer_range: self.config.initializer_range,
        }
    }

    fn segments(&self) -> usize {
        self.config.type_vocab_size
    }

    fn dropout(&self) -> Result<DropoutRates> {
        let (hidden, attention) = (("hidden_dropout_prob", 0.1), ("attention_probs_dropout_prob", 0.1));
        DropoutRates::of(&self.config(), &[hidden, attention, hidden])
    }

    fn class_name(&self, pairs: bool) -> &'static str {
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
        config_json(json!(self.config), defaults)
    }

    fn check(&self, batch: &Batch) -> Result<()> {
        check_tokens(batch, &self.sizes())?;
        check_positions(batch.positions.iter(), &self.sizes())?;
        let (segment, segments) =
            (batch.segments.iter().max().map_or(0, |&id| id as usize), self.config.type_vocab_size);
        ensure!(segment < segments, "segment {segment} is past the {segments} that the model knows");
        let asked = !batch.targets.is_empty() || !batch.choices.is_empty();
        ensure!(!asked || self.predicts(), "the checkpoint has no head for masked tokens (cls.predictions)");
        Ok(())
    }

    fn predicts(&self) -> bool {
        self.head.is_some()
    }

    fn add_head(&mut self, builder: &mut Builder) -> Result<()> {
        if self.head.is_none() {
            self.head = Some((Head::new(&self.config, builder, BIAS)?, self.backbone.token_embedding));
        }
        Ok(())
    }

    fn hidden(&self, pass: &Pass) -> Tensor<2> {
        self.backbone.hidden(pass)
    }

    fn before_logits(&self, pass: &Pass, hidden: Tensor<2>) -> Tensor<2> {
        match &self.head {
            Some((head, _)) => head.norm.forward(pass, head.dense.gelu(pass, hidden, head.gelu)),
            None => hidden,
        }
    }

    fn output(&self) -> (WeightId, Option<VectorId>) {
        match &self.head {
            Some((head, matrix)) => (*matrix, Some(head.bias)),
            None => (self.backbone.token_embedding, None),
        }
    }
}
