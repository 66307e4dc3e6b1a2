//! What a model computes: a transformer from token ids to hidden states, and its language model head. All else (losses,
//! scores, files, further heads) is shared.

use anyhow::{Result, ensure};
use burn::tensor::Tensor;
use serde_json::Value;

use super::{
    builder::Builder,
    dropout::DropoutRates,
    ids::{VectorId, WeightId},
    pass::Pass,
};
use crate::network::batch::Batch;

/// Sizes that the rest of a network depends on.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Sizes {
    /// Width of the hidden states.
    pub hidden: usize,
    /// Layers.
    pub layers: usize,
    /// Entries of the vocabulary.
    pub vocabulary: usize,
    /// The longest sequence, in tokens.
    pub max_length: usize,
    /// Rows of the tables of positions; `None` where positions are rotary, so that sequences may be longer than
    /// `max_length`.
    pub positions: Option<usize>,
    /// Standard deviation of new weights.
    pub initializer_range: f64,
}

impl Sizes {
    /// The longest sequence behind so many positions that are taken.
    pub fn max_length_behind(&self, taken: usize) -> usize {
        self.positions.map_or(self.max_length, |_| self.max_length.saturating_sub(taken))
    }
}

/// A model put together from blocks, without the values of its parameters.
pub trait Architecture: Send + Sync {
    /// How large it is.
    fn sizes(&self) -> Sizes;

    /// How many kinds of segments it tells apart.
    fn segments(&self) -> usize {
        1
    }

    /// The name of Hugging Face's class, with a head for sentence `pairs` or without.
    fn class_name(&self, pairs: bool) -> &'static str;

    /// `config.json` as Hugging Face has it, but for the name of the class.
    fn config(&self) -> Value;

    /// How often its config says that activations are dropped while it's trained.
    ///
    /// # Errors
    /// Values that are no probabilities, and places that aren't known here.
    fn dropout(&self) -> Result<DropoutRates> {
        Ok(DropoutRates::from(0.1))
    }

    /// Whether attention is causal, whatever the batch says.
    fn is_causal(&self) -> bool {
        false
    }

    /// The token that a target begins with, where a decoder writes what follows from what an encoder has read.
    fn target_start(&self) -> Option<u32> {
        None
    }

    /// Whether a token's keys and values stay the same as its sequence grows, so that they can be cached.
    fn is_incremental(&self) -> bool {
        true
    }

    /// Whether it has what it takes to predict tokens; a checkpoint of a bare backbone may lack it.
    fn predicts(&self) -> bool {
        true
    }

    /// Refuses batches that the tables are too small for.
    ///
    /// # Errors
    /// A token outside of the vocabulary, or a position past the last one.
    fn check(&self, batch: &Batch) -> Result<()> {
        check_tokens(batch, &self.sizes())?;
        check_positions(batch.positions.iter(), &self.sizes())
    }

    /// Adds what a checkpoint of the bare backbone lacks for predicting tokens; most lack nothing.
    ///
    /// # Errors
    /// Settings that aren't supported.
    fn add_head(&mut self, _builder: &mut Builder) -> Result<()> {
        Ok(())
    }

    /// Hidden states `[T, hidden]` of a batch, after the last norm.
    fn hidden(&self, pass: &Pass) -> Tensor<2>;

    /// What stands between hidden states and the logits' linear layer: `[N, hidden]` to the same.
    fn before_logits(&self, _pass: &Pass, hidden: Tensor<2>) -> Tensor<2> {
        hidden
    }

    /// The linear layer that gives logits: its weight `[vocabulary, hidden]` and bias.
    fn output(&self) -> (WeightId, Option<VectorId>);
}

/// # Errors
/// Something to predict, for a model that `predicts` nothing.
pub fn check_head(batch: &Batch, predicts: bool) -> Result<()> {
    let asked = !batch.targets.is_empty() || !batch.choices.is_empty();
    ensure!(!asked || predicts, "the checkpoint has no head that predicts tokens");
    Ok(())
}

/// # Errors
/// Tokens and targets outside of the vocabulary.
pub fn check_tokens(batch: &Batch, sizes: &Sizes) -> Result<()> {
    let targets = batch.targets.iter().map(|target| target.token);
    let token = batch.tokens.iter().copied().chain(targets).max().unwrap_or(0);
    let vocabulary = sizes.vocabulary;
    ensure!((token as usize) < vocabulary, "token {token} is outside of the model's vocabulary of {vocabulary}");
    Ok(())
}

/// # Errors
/// Positions past the last row of their table.
pub fn check_positions<'a>(positions: impl Iterator<Item = &'a u32>, sizes: &Sizes) -> Result<()> {
    let Some(rows) = sizes.positions else { return Ok(()) };
    let (position, max_length) = (positions.max().copied().unwrap_or(0), sizes.max_length);
    ensure!((position as usize) < rows, "position {position} is past the model's max_length of {max_length}");
    Ok(())
}
