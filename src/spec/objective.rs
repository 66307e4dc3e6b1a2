//! What a language model is trained for.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// One entry of the mix. Each step draws one entry by weight. `masked_lm` and one of `next_sentence` and
/// `sentence_order` may stand together: they're computed on the same pairs, and their losses are added.
#[derive(Clone, Debug, Deserialize, JsonSchema, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Objective {
    /// How often this entry is drawn, relative to the others
    #[serde(default = "one")]
    #[schemars(range(min = 0.0))]
    pub weight: f64,
    /// Guess masked tokens
    #[serde(default)]
    pub masked_lm: Option<MaskedLm>,
    /// Tell whether B follows A or comes from another document
    #[serde(default)]
    pub next_sentence: Option<SentencePair>,
    /// Tell whether A and B stand in their order or were exchanged
    #[serde(default)]
    pub sentence_order: Option<SentencePair>,
    /// Generate text
    #[serde(default)]
    pub generative: Option<Generative>,
}

/// Masked language modelling (Devlin et al. 2019).
#[derive(Clone, Debug, Deserialize, JsonSchema, Serialize)]
#[serde(deny_unknown_fields)]
pub struct MaskedLm {
    /// Share of the tokens that is to be guessed
    #[serde(default = "mask_probability")]
    #[schemars(range(min = 0.0, max = 1.0))]
    pub probability: f64,
    /// Of those, the share shown as `[MASK]`
    #[serde(default = "mask_share")]
    #[schemars(range(min = 0.0, max = 1.0))]
    pub mask: f64,
    /// Of those, the share shown as another token; the rest is shown as it is
    #[serde(default = "random_share")]
    #[schemars(range(min = 0.0, max = 1.0))]
    pub random: f64,
    /// Mask whole words: `##` pieces with their head, and the runs that a dictionary-free segmenter joins in Chinese
    #[serde(default)]
    pub whole_word: bool,
}

/// A judgement on a pair of text segments.
#[derive(Clone, Debug, Deserialize, JsonSchema, Serialize)]
#[serde(deny_unknown_fields)]
pub struct SentencePair {
    /// Factor of this loss beside the masked one
    #[serde(default = "one")]
    #[schemars(range(min = 0.0))]
    pub loss_weight: f64,
}

/// The generative objectives.
#[derive(Clone, Debug, Deserialize, JsonSchema, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Generative {
    /// Every token from those before it
    CausalLm(CausalLm),
    /// A continuation from a prompt that is seen in both directions
    PrefixLm(PrefixLm),
    /// GLM's autoregressive blank infilling
    BlankInfilling(BlankInfilling),
}

/// Next-token prediction.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema, Serialize)]
#[serde(deny_unknown_fields)]
pub struct CausalLm {}

/// A prompt is cut from the text; the loss is on the continuation.
#[derive(Clone, Debug, Deserialize, JsonSchema, Serialize)]
#[serde(deny_unknown_fields)]
pub struct PrefixLm {
    /// The shortest prompt, as a share of the text
    #[serde(default = "min_prefix")]
    #[schemars(range(min = 0.0, max = 1.0))]
    pub min_prefix: f64,
    /// The longest prompt, as a share of the text
    #[serde(default = "max_prefix")]
    #[schemars(range(min = 0.0, max = 1.0))]
    pub max_prefix: f64,
}

/// Blank infilling with `[MASK]` spans, `[sMASK]` sentences and a `[gMASK]` document; each batch draws one of the three.
#[derive(Clone, Debug, Deserialize, JsonSchema, Serialize)]
#[serde(deny_unknown_fields)]
pub struct BlankInfilling {
    /// Weight of short spans with lengths from a Poisson distribution
    #[serde(default = "span_weight")]
    #[schemars(range(min = 0.0))]
    pub span: f64,
    /// Weight of whole sentences
    #[serde(default = "sentence_weight")]
    #[schemars(range(min = 0.0))]
    pub sentence: f64,
    /// Weight of one long continuation
    #[serde(default = "sentence_weight")]
    #[schemars(range(min = 0.0))]
    pub document: f64,
    /// Share of the tokens that spans and sentences cover
    #[serde(default = "mask_probability")]
    #[schemars(range(min = 0.0, max = 1.0))]
    pub ratio: f64,
    /// Mean length of a span
    #[serde(default = "mean_span")]
    #[schemars(range(min = 1.0))]
    pub mean_span: f64,
    /// The shortest continuation in document mode, as a share of the text
    #[serde(default = "min_generation")]
    #[schemars(range(min = 0.0, max = 1.0))]
    pub min_generation: f64,
}

fn one() -> f64 {
    1.0
}

fn mask_probability() -> f64 {
    0.15
}

fn mask_share() -> f64 {
    0.8
}

fn random_share() -> f64 {
    0.1
}

fn min_prefix() -> f64 {
    0.1
}

fn max_prefix() -> f64 {
    0.9
}

fn span_weight() -> f64 {
    0.4
}

fn sentence_weight() -> f64 {
    0.3
}

fn mean_span() -> f64 {
    3.0
}

fn min_generation() -> f64 {
    0.25
}
