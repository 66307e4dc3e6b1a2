//! The shape of most families: one stack of layers between embeddings and the matrix that gives logits.

use anyhow::Result;
use burn::tensor::Tensor;
use serde_json::Value;

use super::{
    architecture::{Architecture, Sizes, check_head, check_positions, check_tokens},
    blocks::Backbone,
    dropout::{DropoutKeys, DropoutRates},
    ids::{VectorId, WeightId},
    pass::{Along, Pass},
};
use crate::network::batch::Batch;

/// A transformer of one stack of layers.
#[derive(Clone, Debug)]
pub struct SingleStack {
    /// How large it is.
    pub sizes: Sizes,
    /// The name of Hugging Face's class.
    pub class_name: &'static str,
    /// `config.json`, but for that name.
    pub config: Value,
    /// The keys of `config.json` with its dropout; none where the original's code has no dropout.
    pub dropout: Option<&'static DropoutKeys>,
    /// Whether attention is causal, whatever a batch says.
    pub is_causal: bool,
    /// From token ids to hidden states.
    pub backbone: Backbone,
    /// The matrix that gives logits, `[vocabulary, hidden]`.
    pub output: WeightId,
    /// Whether there is such a head; a checkpoint of a classifier may have none.
    pub has_head: bool,
}

impl Architecture for SingleStack {
    fn sizes(&self) -> Sizes {
        self.sizes
    }

    fn class_name(&self, _pairs: bool) -> &'static str {
        self.class_name
    }

    fn config(&self) -> Value {
        self.config.clone()
    }

    fn dropout(&self) -> Result<DropoutRates> {
        self.dropout.map_or(Ok(DropoutRates::NONE), |keys| DropoutRates::of(&self.config, keys))
    }

    fn is_causal(&self) -> bool {
        self.is_causal
    }

    fn predicts(&self) -> bool {
        self.has_head
    }

    fn check(&self, batch: &Batch) -> Result<()> {
        check_head(batch, self.has_head)?;
        check_tokens(batch, &self.sizes)?;
        check_positions(batch.positions.iter(), &self.sizes)?;
        match self.backbone.embeds(Along::BlockPositions) {
            true => check_positions(batch.block_positions.iter(), &self.sizes),
            false => Ok(()),
        }
    }

    fn hidden(&self, pass: &Pass) -> Tensor<2> {
        self.backbone.hidden(pass)
    }

    fn output(&self) -> (WeightId, Option<VectorId>) {
        (self.output, None)
    }
}
