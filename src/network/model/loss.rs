//! What a network is trained to make small.

use std::{ops::AddAssign, sync::Arc};

use anyhow::{Context, Result};
use burn::tensor::{DType, Tensor, TensorData};

use super::{
    candidates::Candidates,
    network::Network,
    pass::{Pass, PassMode},
};
use crate::network::{
    batch::Batch,
    kernels::{self, RowIds},
};

/// What the loss depends on beside the batch.
#[derive(Clone, Debug)]
pub struct LossSettings {
    /// Probability of dropping an activation.
    pub dropout: f32,
    /// Probability mass spread evenly over all classes.
    pub label_smoothing: f32,
    /// Candidates at the nodes of the label trie, where there are choices to learn.
    pub candidates: Option<Candidates>,
}

/// How many things of each kind there are to learn from in the batches of one step.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Counts {
    /// Tokens to predict.
    pub targets: usize,
    /// Examples with choices.
    pub chosen: usize,
    /// Sentence pairs.
    pub pairs: usize,
    /// Classes.
    pub classes: usize,
    /// Input tokens, padding not among them.
    pub tokens: usize,
}

impl Counts {
    /// Of one batch.
    pub fn of(batch: &Batch) -> Self {
        Self {
            targets: batch.targets.len(),
            chosen: if batch.choices.is_empty() { 0 } else { batch.examples.len() },
            pairs: batch.pairs.len(),
            classes: batch.classes.len(),
            tokens: batch.examples.iter().map(|example| example.length as usize).sum(),
        }
    }
}

impl AddAssign for Counts {
    fn add_assign(&mut self, other: Self) {
        self.targets += other.targets;
        self.chosen += other.chosen;
        self.pairs += other.pairs;
        self.classes += other.classes;
        self.tokens += other.tokens;
    }
}

/// A loss, and the parts of it that are told by themselves; each has one element.
#[derive(Debug)]
pub struct Loss {
    /// All of it.
    pub total: Tensor<1>,
    /// Of tokens to predict, if there are any.
    pub targets: Option<Tensor<1>>,
    /// Of pairs, if there are any; without its weight.
    pub pairs: Option<Tensor<1>>,
}

impl Network {
    /// The [`Self::losses`] of a batch in one.
    ///
    /// # Errors
    /// As [`Self::losses`].
    pub fn loss(&self, batch: &Batch, counts: &Counts, pair_weight: f32, settings: &LossSettings) -> Result<Tensor<1>> {
        Ok(self.losses(batch, counts, pair_weight, settings)?.total)
    }

    /// A batch's part of its step's loss: the sum of the means, over the whole step, of the cross-entropies of targets,
    /// of choices (summed along each example's path), of pairs (times `pair_weight`) and of classes.
    ///
    /// `counts` are those of all batches of the step, so that the parts add up to what one big batch would give.
    ///
    /// # Errors
    /// Batches that don't fit the model, or that ask for heads it doesn't have.
    pub fn losses(&self, batch: &Batch, counts: &Counts, pair_weight: f32, settings: &LossSettings) -> Result<Loss> {
        let pass =
            self.pass(batch, PassMode::Train { dropout: settings.dropout })?.computing_with(self.precision.into());
        let pass = match self.rates {
            Some(rates) => pass.dropping(rates),
            None => pass,
        };
        let pass = if self.recomputes { pass.recomputing() } else { pass };
        let hidden = self.architecture().hidden(&pass);
        let smoothing = settings.label_smoothing;
        let mut parts = Vec::new();
        let (mut targets, mut pairs) = (None, None);
        if !batch.targets.is_empty() {
            let loss = self.target_loss(&pass, &hidden, batch, counts, smoothing);
            targets = Some(loss.clone().inner());
            parts.push(loss);
        }
        if !batch.choices.is_empty() {
            let candidates = settings.candidates.as_ref().context("there are choices, but no candidates")?;
            let log = self.choice_log_softmax(&pass, &hidden, batch, candidates)?;
            let rows = batch.choices.iter().map(|choice| {
                let places = candidates.places(choice);
                (places[choice.gold as usize], places.to_vec())
            });
            parts.push(cross_entropy(log, rows, smoothing, counts.chosen));
        }
        if !batch.pairs.is_empty() {
            let logits = self.pair_logits(&pass, hidden.clone(), batch)?;
            let loss = class_loss(logits, &batch.pairs, smoothing, counts.pairs);
            pairs = Some(loss.clone().inner());
            parts.push(loss * pair_weight);
        }
        if !batch.classes.is_empty() {
            let logits = self.class_logits(&pass, hidden.clone(), batch)?;
            parts.push(class_loss(logits, &batch.classes, smoothing, counts.classes));
        }
        let total = parts.into_iter().reduce(|sum, part| sum + part).context("the batch has nothing to learn from")?;
        Ok(Loss { total, targets, pairs })
    }

    fn target_loss(
        &self,
        pass: &Pass,
        hidden: &Tensor<2>,
        batch: &Batch,
        counts: &Counts,
        smoothing: f32,
    ) -> Tensor<1> {
        let places: Arc<[u32]> = batch.targets.iter().map(|target| target.at).collect();
        let tokens: Arc<[u32]> = batch.targets.iter().map(|target| target.token).collect();
        let weights: Arc<[f32]> = vec![1.0 / counts.targets as f32; tokens.len()].into();
        let rows = kernels::embedding(hidden.clone(), &RowIds::new(places, self.parameters().device()));
        let rows = self.architecture().before_logits(pass, rows);
        let (weight, bias) = self.architecture().output();
        let bias = bias.map(|bias| pass.vector(bias));
        kernels::linear_cross_entropy(pass.to_operand(rows), pass.operand(weight), bias, tokens, weights, smoothing)
    }
}

fn class_loss(logits: Tensor<2>, classes: &[u32], smoothing: f32, count: usize) -> Tensor<1> {
    let all: Vec<u32> = (0..logits.dims()[1] as u32).collect();
    let rows = classes.iter().map(|&class| (class, all.clone()));
    cross_entropy(kernels::log_softmax(logits.cast(DType::F32)), rows, smoothing, count)
}

/// The sum of the cross-entropies of `log_probabilities [N, C]`, divided by `count`: of each row's gold column and all
/// its columns.
fn cross_entropy(
    log_probabilities: Tensor<2>,
    rows: impl Iterator<Item = (u32, Vec<u32>)>,
    smoothing: f32,
    count: usize,
) -> Tensor<1> {
    let shape = log_probabilities.dims();
    let mut weights = vec![0.0f32; shape[0] * shape[1]];
    let scale = -1.0 / count as f32;
    for ((gold, all), weights) in rows.zip(weights.chunks_exact_mut(shape[1])) {
        let share = scale * smoothing / all.len() as f32;
        all.iter().for_each(|&column| weights[column as usize] = share);
        weights[gold as usize] += scale * (1.0 - smoothing);
    }
    let weights = Tensor::from_data(TensorData::new(weights, shape), &log_probabilities.device().inner());
    kernels::sum(log_probabilities * weights)
}
