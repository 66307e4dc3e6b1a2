//! What a network makes of a batch when nothing is to be learned: log-probabilities and logits on the host.

use anyhow::{Context, Result, anyhow};
use burn::tensor::{Element, Tensor};

use super::{
    candidates::Candidates,
    network::Network,
    pass::{Pass, PassMode},
};
use crate::{
    network::{
        batch::Batch,
        kernels::{self, RowIds},
    },
    support::math,
};

/// Rows of logits over the whole vocabulary that are held at once.
const ROWS: usize = 256;

/// How well a target was predicted.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct TargetScore {
    /// Natural logarithm of the probability given to the right token.
    pub log_probability: f32,
    /// Whether no other token was given a higher one.
    pub correct: bool,
}

impl Network {
    /// For each choice of the batch the log-probabilities of its node's candidates, in their order; the gold ones are
    /// not looked at.
    ///
    /// # Errors
    /// Batches that don't fit the model.
    pub fn choice_log_probabilities(&self, batch: &Batch, candidates: &Candidates) -> Result<Vec<Vec<f64>>> {
        let pass = self.pass(batch, PassMode::Evaluate)?;
        let hidden = self.architecture().hidden(&pass);
        let rows = rows(self.choice_log_softmax(&pass, &hidden, batch, candidates)?)?;
        let choices = batch.choices.iter().zip(rows);
        Ok(choices
            .map(|(choice, row)| candidates.places(choice).iter().map(|&at| row[at as usize]).collect())
            .collect())
    }

    /// For each example the log-probabilities of the classes of the linear head.
    ///
    /// # Errors
    /// Batches that don't fit the model, or a model without a linear head.
    pub fn class_log_probabilities(&self, batch: &Batch) -> Result<Vec<Vec<f64>>> {
        let pass = self.pass(batch, PassMode::Evaluate)?;
        let hidden = self.architecture().hidden(&pass);
        rows(kernels::log_softmax(self.class_logits(&pass, hidden, batch)?))
    }

    /// For each example the outputs of the linear head as they are.
    ///
    /// # Errors
    /// As [`Self::class_log_probabilities`].
    pub fn class_outputs(&self, batch: &Batch) -> Result<Vec<Vec<f64>>> {
        let pass = self.pass(batch, PassMode::Evaluate)?;
        let hidden = self.architecture().hidden(&pass);
        rows(self.class_logits(&pass, hidden, batch)?)
    }

    /// For each example the log-probabilities that its segments are in order, and that they aren't.
    ///
    /// # Errors
    /// Batches that don't fit the model, or a model without a head for pairs.
    pub fn pair_log_probabilities(&self, batch: &Batch) -> Result<Vec<Vec<f64>>> {
        let pass = self.pass(batch, PassMode::Evaluate)?;
        let hidden = self.architecture().hidden(&pass);
        rows(kernels::log_softmax(self.pair_logits(&pass, hidden, batch)?))
    }

    /// For each target of the batch how well it's predicted.
    ///
    /// # Errors
    /// Batches that don't fit the model.
    pub fn target_scores(&self, batch: &Batch) -> Result<Vec<TargetScore>> {
        let pass = self.pass(batch, PassMode::Evaluate)?;
        let hidden = self.architecture().hidden(&pass);
        let mut scores = Vec::with_capacity(batch.targets.len());
        for targets in batch.targets.chunks(ROWS) {
            let places = targets.iter().map(|target| target.at).collect();
            for (target, row) in targets.iter().zip(self.logits_rows(&pass, &hidden, places)?) {
                let logit = *row.get(target.token as usize).context("a target is outside of the vocabulary")?;
                let largest = row.iter().copied().fold(f32::NEG_INFINITY, f32::max);
                let sum: f64 = row.iter().map(|&other| math::exp(f64::from(other - largest))).sum();
                let log_probability = (f64::from(logit - largest) - math::ln(sum)) as f32;
                scores.push(TargetScore { log_probability, correct: logit >= largest });
            }
        }
        Ok(scores)
    }

    /// Logits over the vocabulary at the slots `at`, such as the last one of each example while generating.
    ///
    /// # Errors
    /// Batches that don't fit the model, places past their end.
    pub fn logits_at(&self, batch: &Batch, at: &[u32]) -> Result<Vec<Vec<f32>>> {
        let tokens = batch.rows * batch.width;
        if let Some(place) = at.iter().find(|&&place| place as usize >= tokens) {
            return Err(anyhow!("no token at {place} in a batch of {tokens}"));
        }
        let pass = self.pass(batch, PassMode::Evaluate)?;
        let hidden = self.architecture().hidden(&pass);
        let chunks = at.chunks(ROWS).map(|places| self.logits_rows(&pass, &hidden, places.to_vec()));
        Ok(chunks.collect::<Result<Vec<_>>>()?.concat())
    }

    /// Logits over the vocabulary at these slots, on the host.
    pub(super) fn logits_rows(&self, pass: &Pass, hidden: &Tensor<2>, places: Vec<u32>) -> Result<Vec<Vec<f32>>> {
        let places = RowIds::new(places, self.parameters().device());
        rows(self.logits(pass, kernels::embedding(hidden.clone(), &places)))
    }
}

/// The rows of a tensor, on the host.
fn rows<E: Element>(tensor: Tensor<2>) -> Result<Vec<Vec<E>>> {
    let columns = tensor.dims()[1];
    let values: Vec<E> = tensor.try_into_vec_as().map_err(|error| anyhow!("can't read from the device: {error:?}"))?;
    Ok(values.chunks_exact(columns).map(<[E]>::to_vec).collect())
}
