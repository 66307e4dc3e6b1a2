//! Classification heads: sentence pairs from the first token's hidden state, classes from a pooled one.

use std::sync::Arc;

use burn::tensor::{DType, Tensor, TensorData};
use serde::{Deserialize, Serialize};

use super::{blocks::Linear, builder::Builder, ids::WeightRole, pass::Pass};
use crate::network::{
    batch::Batch,
    kernels::{self, RowIds},
};

/// What a linear head reads.
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
        kernels::tanh(self.0.forward(pass, first_tokens(hidden, batch)))
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
    name.starts_with("pooler.") || name.starts_with("cls.seq_relationship.")
}

/// Whether a parameter is of the linear head.
pub(super) fn judges_classes(name: &str) -> bool {
    name.starts_with("classifier.")
}

/// A classifier's sizes, as `config.json` keeps them.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub(super) struct ClassifierConfig {
    pub(super) classes: usize,
    pub(super) pooling: Pooling,
}

/// A linear layer on the pooled text.
#[derive(Clone, Debug)]
pub(super) struct Classifier {
    pub(super) config: ClassifierConfig,
    output: Linear,
}

impl Classifier {
    /// `classifier [classes, hidden]`.
    pub(super) fn new(builder: &mut Builder, config: ClassifierConfig, hidden: usize, deviation: f64) -> Self {
        let shape = [config.classes, hidden];
        let output = |builder: &mut Builder| Linear::new(builder, "classifier", shape, true, deviation);
        Self { config, output: builder.in_role(WeightRole::Head, output) }
    }

    /// Logits `[examples, classes]` from the hidden states `[T, hidden]`.
    pub(super) fn logits(&self, pass: &Pass, hidden: Tensor<2>, batch: &Batch) -> Tensor<2> {
        let pooled = match self.config.pooling {
            Pooling::First => first_tokens(hidden, batch),
            Pooling::Mean => means(hidden, batch),
        };
        self.output.forward(pass, pooled)
    }
}

fn first_tokens(hidden: Tensor<2>, batch: &Batch) -> Tensor<2> {
    let starts: Arc<[u32]> = batch.examples.iter().map(|example| example.start).collect();
    let starts = RowIds::new(starts, &hidden.device().inner());
    kernels::embedding(hidden, &starts)
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
