//! Classification heads: sentence pairs from the first token's hidden state, classes from a pooled one.

use std::sync::Arc;

use anyhow::{Context, Result};
use burn::tensor::{DType, Tensor, TensorData};
use serde::{Deserialize, Serialize};

use super::{blocks::Linear, builder::Builder, ids::WeightRole, pass::Pass};
use crate::network::{
    batch::Batch,
    kernels::{self, RowIds},
};

/// What a recipe has a linear head read.
pub use crate::spec::Pooling;

/// BERT's summary of a text: a dense layer with tanh on the first token.
#[derive(Clone, Debug)]
pub(super) struct Pooler(Linear);

impl Pooler {
    /// The weight's name, by which a checkpoint tells whether it has one.
    pub(super) const WEIGHT: &str = "pooler.dense.weight";

    /// `pooler.dense`.
    pub(super) fn new(builder: &mut Builder, hidden: usize, deviation: f64) -> Self {
        let dense = |builder: &mut Builder| Linear::new(builder, "pooler.dense", [hidden, hidden], true, deviation);
        Self(builder.in_role(WeightRole::Head, dense))
    }

    /// `[examples, hidden]` from the hidden states `[T, hidden]`.
    pub(super) fn forward(&self, pass: &Pass, hidden: Tensor<2>, batch: &Batch) -> Tensor<2> {
        kernels::tanh(self.0.forward(pass, rows(hidden, &first_tokens(batch))))
    }
}

/// BERT's head for sentence pairs: two logits from the pooled text.
#[derive(Clone, Debug)]
pub(super) struct PairHead(Linear);

impl PairHead {
    /// The weight's name, by which a checkpoint tells whether it has one.
    pub(super) const WEIGHT: &str = "cls.seq_relationship.weight";

    /// `cls.seq_relationship`.
    pub(super) fn new(builder: &mut Builder, hidden: usize, deviation: f64) -> Self {
        let judge = |builder: &mut Builder| Linear::new(builder, "cls.seq_relationship", [2, hidden], true, deviation);
        Self(builder.in_role(WeightRole::Head, judge))
    }

    /// Logits `[examples, 2]` from what the pooler gives.
    pub(super) fn logits(&self, pass: &Pass, pooled: Tensor<2>) -> Tensor<2> {
        self.0.forward(pass, pooled)
    }
}

/// Whether a parameter is one of these heads, and not of the family.
pub(super) fn is_head(name: &str) -> bool {
    judges_pairs(name) || judges_classes(name)
}

/// Whether a parameter belongs to the sentence-pair head.
pub(super) fn judges_pairs(name: &str) -> bool {
    is_pooler(name) || name.starts_with("cls.seq_relationship.")
}

/// Whether a parameter is of the linear head.
pub(super) fn judges_classes(name: &str) -> bool {
    name.starts_with("classifier.") || name.starts_with("score.")
}

/// Whether a parameter is of the pooler, which both heads may read.
pub(super) fn is_pooler(name: &str) -> bool {
    name.starts_with("pooler.")
}

/// What a linear head reads, as `config.json` keeps it.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum HeadInput {
    /// The mean of an example's hidden states.
    Mean,
    /// The hidden state of the first token as it is, in models from before the pooler stood between.
    First,
    /// What the pooler makes of the first token, with dropout: `BertForSequenceClassification`'s.
    Pooler,
    /// The hidden state of the last token, without a bias: that of classes such as `GPT2ForSequenceClassification`.
    Last,
}

impl From<Pooling> for HeadInput {
    fn from(pooling: Pooling) -> Self {
        match pooling {
            Pooling::Mean => Self::Mean,
            Pooling::First => Self::Pooler,
            Pooling::Last => Self::Last,
        }
    }
}

impl HeadInput {
    /// For messages.
    pub(super) fn described(self) -> &'static str {
        match self {
            Self::Mean => "the mean of all tokens",
            Self::First => "the first token without a pooler",
            Self::Pooler => "the first token",
            Self::Last => "the last token",
        }
    }
}

/// A classifier's sizes, as `config.json` keeps them.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub(super) struct ClassifierConfig {
    pub(super) classes: usize,
    #[serde(rename = "pooling")]
    pub(super) input: HeadInput,
}

impl ClassifierConfig {
    /// The weight's name, by which a checkpoint tells whether it has this head.
    pub(super) fn name(self) -> &'static str {
        if self.input == HeadInput::Last { "score" } else { "classifier" }
    }
}

/// A linear layer on the pooled text.
#[derive(Clone, Debug)]
pub(super) struct Classifier {
    pub(super) config: ClassifierConfig,
    output: Linear,
}

impl Classifier {
    /// `classifier [classes, hidden]`; `score` where the last token is read, as Hugging Face's classes call it.
    pub(super) fn new(builder: &mut Builder, config: ClassifierConfig, hidden: usize, deviation: f64) -> Self {
        let (shape, bias) = ([config.classes, hidden], config.input != HeadInput::Last);
        let output = |builder: &mut Builder| Linear::new(builder, config.name(), shape, bias, deviation);
        Self { config, output: builder.in_role(WeightRole::Head, output) }
    }

    /// Logits `[examples, classes]` from the hidden states `[T, hidden]`.
    ///
    /// # Errors
    /// A head that reads the pooler of a model without one.
    pub(super) fn logits(
        &self,
        pass: &Pass,
        hidden: Tensor<2>,
        batch: &Batch,
        pooler: Option<&Pooler>,
    ) -> Result<Tensor<2>> {
        let pooled = match self.config.input {
            HeadInput::Mean => means(hidden, batch),
            HeadInput::First => rows(hidden, &first_tokens(batch)),
            HeadInput::Last => rows(hidden, &last_tokens(batch)),
            HeadInput::Pooler => {
                let pooler = pooler.context("the model has no pooler for its linear head")?;
                let pooled = pooler.forward(pass, hidden, batch);
                match pass.dropout_at(&first_tokens(batch)) {
                    Some(dropout) => kernels::dropout(pooled, &dropout),
                    None => pooled,
                }
            }
        };
        Ok(self.output.forward(pass, pooled))
    }
}

/// Where examples begin.
fn first_tokens(batch: &Batch) -> Vec<u32> {
    batch.examples.iter().map(|example| example.start).collect()
}

/// Their last tokens' places.
fn last_tokens(batch: &Batch) -> Vec<u32> {
    batch.examples.iter().map(|example| example.start + example.length.max(1) - 1).collect()
}

/// The hidden states at these places.
fn rows(hidden: Tensor<2>, places: &[u32]) -> Tensor<2> {
    let places = RowIds::new(Arc::<[u32]>::from(places), &hidden.device().inner());
    kernels::embedding(hidden, &places)
}

/// The mean of each example's hidden states, as a product with `[examples, T]`.
fn means(hidden: Tensor<2>, batch: &Batch) -> Tensor<2> {
    let [tokens, _] = hidden.dims();
    let mut shares = vec![0.0f32; batch.examples.len() * tokens];
    for (example, shares) in batch.examples.iter().zip(shares.chunks_exact_mut(tokens)) {
        let (start, length) = (example.start as usize, example.length as usize);
        shares[start..start + length].fill(1.0 / length as f32);
    }
    let shares = TensorData::new(shares, [batch.examples.len(), tokens]);
    kernels::matmul(Tensor::from_data(shares, &hidden.device().inner()), hidden.cast(DType::F32))
}
