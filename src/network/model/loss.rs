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
    batch::{Batch, SlotRange},
    kernels::{self, RowIds},
};

/// The least that `1 - p` is taken for in the focal loss, so that its logarithm is finite.
const LEAST_DOUBT: f32 = 1e-7;

/// What the loss depends on beside the batch.
#[derive(Clone, Debug, Default)]
pub struct LossSettings {
    /// Probability of dropping an activation.
    pub dropout: f32,
    /// Probability mass spread evenly over all classes.
    pub label_smoothing: f32,
    /// γ of the focal loss of labels (Lin et al. 2017, <https://arxiv.org/abs/1708.02002>); 0 turns it off.
    pub focal_gamma: f32,
    /// What a linear head says.
    pub answers: Answers,
    /// Candidates at the nodes of the label trie, where there are choices to learn.
    pub candidates: Option<Candidates>,
}

/// What a linear head says of an example, and so what its loss is.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum Answers {
    /// One of the classes: cross-entropy, with the right class or with the probabilities that are wanted.
    #[default]
    One,
    /// Any of the classes, each by itself: the mean of the binary cross-entropies of all outputs (PyTorch's
    /// `BCEWithLogitsLoss`).
    Any,
    /// Numbers: the mean of the squared differences of all outputs (PyTorch's `MSELoss`).
    Numbers,
}

/// How many things of each kind there are to learn from in the batches of one step.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Counts {
    /// Tokens to predict.
    pub targets: usize,
    /// Examples with choices, each as much as it weighs.
    pub chosen: f32,
    /// Sentence pairs.
    pub pairs: usize,
    /// Examples with classes, each as much as it weighs.
    pub classes: f32,
    /// Input tokens, padding not among them.
    pub tokens: usize,
}

impl Counts {
    /// Of one batch.
    pub fn of(batch: &Batch) -> Self {
        let weight = match batch.weights.is_empty() {
            true => batch.examples.len() as f32,
            false => batch.weights.iter().sum(),
        };
        let if_any = |things: usize| if things == 0 { 0.0 } else { weight };
        Self {
            targets: batch.targets.len(),
            chosen: if_any(batch.choices.len()),
            pairs: batch.pairs.len(),
            classes: if_any(if batch.choices.is_empty() { batch.classes.len().max(batch.wanted.len()) } else { 0 }),
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
    /// of choices (summed along each example's path), of pairs (times `pair_weight`) and of classes. Means of choices and
    /// classes are weighted as PyTorch's are, by what the examples' labels weigh.
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
        let weight = |example: usize| batch.weights.get(example).copied().unwrap_or(1.0);
        if !batch.targets.is_empty() {
            let loss = self.target_loss(&pass, &hidden, batch, counts, smoothing);
            targets = Some(loss.clone().inner());
            parts.push(loss);
        }
        if !batch.choices.is_empty() {
            let candidates = settings.candidates.as_ref().context("there are choices, but no candidates")?;
            let log = self.choice_log_softmax(&pass, &hidden, batch, candidates)?;
            let choices = batch.choices.iter().zip(choosers(batch));
            // Of each example's wanted probabilities those that choices before this one have taken.
            let mut taken = vec![0; batch.examples.len()];
            let rows = choices.map(|(choice, example)| {
                let columns = candidates.places(choice).to_vec();
                let wanted = batch.wanted.get(example).filter(|wanted| !wanted.is_empty());
                let wanted = wanted.and_then(|wanted| wanted.get(taken[example]..taken[example] + columns.len()));
                taken[example] += columns.len();
                Row { gold: columns[choice.gold as usize], columns, example, weight: weight(example), wanted }
            });
            parts.push(cross_entropy(log, &rows.collect::<Vec<_>>(), settings, counts.chosen));
        }
        if !batch.pairs.is_empty() {
            let logits = self.pair_logits(&pass, hidden.clone(), batch)?;
            let plain = LossSettings { focal_gamma: 0.0, ..settings.clone() };
            let loss = class_loss(logits, &batch.pairs, &[], &|_| 1.0, &plain, counts.pairs as f32);
            pairs = Some(loss.clone().inner());
            parts.push(loss * pair_weight);
        }
        if !batch.classes.is_empty() {
            let logits = self.class_logits(&pass, hidden.clone(), batch)?;
            parts.push(class_loss(logits, &batch.classes, &batch.wanted, &weight, settings, counts.classes));
        } else if !batch.wanted.is_empty() && batch.choices.is_empty() {
            let logits = self.class_logits(&pass, hidden.clone(), batch)?.cast(DType::F32);
            parts.push(output_loss(logits, &batch.wanted, settings.answers, counts.classes));
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
        kernels::linear_cross_entropy(pass.to_operand(rows), pass.weight(weight), bias, tokens, weights, smoothing)
    }
}

/// The examples that the choices of a batch belong to, which has both in the same order.
fn choosers(batch: &Batch) -> Vec<usize> {
    let mut example = 0;
    let mut chooser = |at: u32| {
        let outside = |slots: &SlotRange| at < slots.start || at >= slots.start + slots.length;
        while batch.examples.get(example).is_some_and(outside) {
            example += 1;
        }
        example
    };
    batch.choices.iter().map(|choice| chooser(choice.at)).collect()
}

fn class_loss(
    logits: Tensor<2>,
    classes: &[u32],
    wanted: &[Vec<f32>],
    weight: &dyn Fn(usize) -> f32,
    settings: &LossSettings,
    sum: f32,
) -> Tensor<1> {
    let columns: Vec<u32> = (0..logits.dims()[1] as u32).collect();
    let row = |(example, &gold): (usize, &u32)| Row {
        gold,
        columns: columns.clone(),
        example,
        weight: weight(example),
        wanted: wanted.get(example).map(Vec::as_slice).filter(|wanted| !wanted.is_empty()),
    };
    let rows: Vec<Row> = classes.iter().enumerate().map(row).collect();
    cross_entropy(kernels::log_softmax(logits.cast(DType::F32)), &rows, settings, sum)
}

/// The mean over all outputs `[N, C]` of what they miss of what is wanted; `examples` are those of the whole step.
fn output_loss(outputs: Tensor<2>, wanted: &[Vec<f32>], answers: Answers, examples: f32) -> Tensor<1> {
    let [rows, width] = outputs.dims();
    let device = outputs.device().inner();
    let wanted = wanted.concat();
    let scale = 1.0 / (examples * width as f32);
    if answers == Answers::Numbers {
        let missed = outputs - Tensor::from_data(TensorData::new(wanted, [rows, width]), &device);
        return kernels::sum(missed.clone() * missed).mul_scalar(scale);
    }
    // σ(x) and σ(−x) are the softmax of x and 0.
    let outputs = outputs.reshape([rows * width, 1]);
    let zeros = Tensor::zeros_like(&outputs);
    let log_probabilities = kernels::log_softmax(Tensor::cat(vec![outputs, zeros], 1));
    let weights = wanted.iter().flat_map(|wanted| [-scale * wanted, -scale * (1.0 - wanted)]).collect::<Vec<_>>();
    kernels::sum(log_probabilities * Tensor::from_data(TensorData::new(weights, [rows * width, 2]), &device))
}

/// What a row of log-probabilities is held against.
struct Row<'a> {
    /// The right column.
    gold: u32,
    /// All columns that it's among.
    columns: Vec<u32>,
    /// The example that the row belongs to.
    example: usize,
    /// What it weighs.
    weight: f32,
    /// The probabilities of these columns to learn in place of the right one's alone.
    wanted: Option<&'a [f32]>,
}

/// The weighted sum of the cross-entropies of `log_probabilities [N, C]`, divided by the `sum` of the weights.
fn cross_entropy(log_probabilities: Tensor<2>, rows: &[Row<'_>], settings: &LossSettings, sum: f32) -> Tensor<1> {
    let shape = log_probabilities.dims();
    let smoothing = settings.label_smoothing;
    let mut weights = vec![0.0f32; shape[0] * shape[1]];
    let scale = -1.0 / sum;
    for (row, weights) in rows.iter().zip(weights.chunks_exact_mut(shape[1])) {
        let Row { gold, columns, weight, wanted, .. } = row;
        let share = weight * scale * smoothing / columns.len() as f32;
        columns.iter().for_each(|&column| weights[column as usize] = share);
        let rest = weight * scale * (1.0 - smoothing);
        match wanted {
            None => weights[*gold as usize] += rest,
            Some(wanted) => {
                columns.iter().zip(*wanted).for_each(|(column, wanted)| weights[*column as usize] += rest * wanted);
            }
        }
    }
    let device = log_probabilities.device().inner();
    let weights = Tensor::from_data(TensorData::new(weights, shape), &device);
    if settings.focal_gamma == 0.0 {
        return kernels::sum(log_probabilities * weights);
    }
    let doubts = doubts(log_probabilities.clone(), rows, settings.focal_gamma);
    kernels::sum((log_probabilities * weights).sum_dim(1) * doubts)
}

/// For each row `(1 - p)^γ [N, 1]`, with the probability of its example's label: the product of those along its path.
fn doubts(log_probabilities: Tensor<2>, rows: &[Row<'_>], gamma: f32) -> Tensor<2> {
    let [count, columns] = log_probabilities.dims();
    let device = log_probabilities.device().inner();
    let examples = rows.iter().map(|row| row.example + 1).max().unwrap_or(0);
    let (mut golds, mut owners) = (vec![0.0f32; count * columns], vec![0.0f32; examples * count]);
    for (at, row) in rows.iter().enumerate() {
        golds[at * columns + row.gold as usize] = 1.0;
        owners[row.example * count + at] = 1.0;
    }
    let golds = Tensor::from_data(TensorData::new(golds, [count, columns]), &device);
    let owners: Tensor<2> = Tensor::from_data(TensorData::new(owners, [examples, count]), &device);
    let logarithms = kernels::matmul(owners.clone(), (log_probabilities * golds).sum_dim(1));
    // What is certain has no loss, and would have no gradient.
    let doubts = logarithms.exp().neg().add_scalar(1.0).clamp_min(LEAST_DOUBT);
    kernels::matmul(owners.transpose(), doubts.log().mul_scalar(gamma).exp())
}

#[cfg(test)]
mod tests;
