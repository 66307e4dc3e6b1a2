//! The batch sampler: which examples make up a step. Each example comes once an epoch, in a shuffled order of that epoch.

use std::{ops::Range, sync::Arc};

use parking_lot::Mutex;

use crate::support::random::{Key, shuffle};

/// Examples are sorted by length within this many steps' worth of them: batches of like length, steps in random order.
const STEPS_TO_SORT: usize = 50;

/// The size of a batch.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum BatchSize {
    /// This many examples.
    Examples(usize),
    /// As many examples as fit into this many tokens; one that is longer makes a batch on its own.
    Tokens(usize),
}

/// How an epoch is divided into batches and steps.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Batching {
    /// The size of a batch.
    pub size: BatchSize,
    /// Batches per step (gradient accumulation).
    pub accumulate: usize,
    /// Put examples of like length together, and count a batch's tokens as its examples times the longest. For rows
    /// that hold one example each; packed or ragged batches have no padding that this could save.
    pub sorted: bool,
}

/// Samples batches with random access: the step's number determines its epoch, and the epoch's order is a hash of the key.
#[derive(Debug)]
pub struct BatchSampler {
    lengths: Vec<u32>,
    batching: Batching,
    key: Key,
    cache: Mutex<EpochCache>,
}

/// The indices of a step's examples.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct StepIndices {
    /// The epoch that the step belongs to.
    pub epoch: usize,
    /// For each batch of the step, the indices of its examples; never empty.
    pub batches: Vec<Vec<u32>>,
}

#[derive(Debug, Default)]
struct EpochCache {
    /// The first step of each epoch seen so far, and of the one after.
    starts: Vec<usize>,
    /// The epoch asked for last.
    recent: Option<(usize, Arc<Epoch>)>,
}

#[derive(Debug)]
struct Epoch {
    /// All examples.
    order: Vec<u32>,
    /// Each batch, as a range of `order`.
    batches: Vec<Range<usize>>,
    /// Each step, as a range of `batches`.
    steps: Vec<Range<usize>>,
}

impl BatchSampler {
    /// A sampler of examples of these lengths in tokens. The examples mustn't be empty: check before.
    pub fn new(lengths: Vec<u32>, batching: Batching, key: Key) -> Self {
        let cache = Mutex::new(EpochCache { starts: vec![0], recent: None });
        Self { lengths, batching, key, cache }
    }

    /// Steps of one epoch. With batches by tokens it varies a little from epoch to epoch.
    pub fn epoch_steps(&self, epoch: usize) -> usize {
        match self.batching.size {
            BatchSize::Examples(n) => self.lengths.len().div_ceil(n.max(1) * self.batching.accumulate.max(1)),
            BatchSize::Tokens(_) => self.epoch(epoch).steps.len(),
        }
    }

    /// Steps of this many passes over the examples; at least one.
    pub fn steps(&self, epochs: f64) -> usize {
        let whole = epochs.max(0.0).floor() as usize;
        let rest = epochs - whole as f64;
        let part = if rest > 0.0 { (rest * self.epoch_steps(whole) as f64).round() as usize } else { 0 };
        ((0..whole).map(|epoch| self.epoch_steps(epoch)).sum::<usize>() + part).max(1)
    }

    /// The examples of a step; epochs follow one another without end.
    pub fn step(&self, step: usize) -> StepIndices {
        if self.lengths.is_empty() {
            return StepIndices { epoch: 0, batches: Vec::new() };
        }
        let (epoch, within) = self.locate(step);
        let plan = self.epoch(epoch);
        let batches = plan.batches[plan.steps[within].clone()].iter();
        StepIndices { epoch, batches: batches.map(|batch| plan.order[batch.clone()].to_vec()).collect() }
    }

    /// The epoch of a step, and its number within.
    fn locate(&self, step: usize) -> (usize, usize) {
        loop {
            let epochs = {
                let starts = &self.cache.lock().starts;
                let epochs = starts.partition_point(|&start| start <= step);
                if epochs < starts.len() {
                    return (epochs - 1, step - starts[epochs - 1]);
                }
                epochs
            };
            let steps = self.epoch_steps(epochs - 1).max(1);
            let starts = &mut self.cache.lock().starts;
            if starts.len() == epochs {
                let end = starts[epochs - 1] + steps;
                starts.push(end);
            }
        }
    }

    fn epoch(&self, epoch: usize) -> Arc<Epoch> {
        if let Some((cached, plan)) = &self.cache.lock().recent
            && *cached == epoch
        {
            return Arc::clone(plan);
        }
        let plan = Arc::new(self.plan(self.key.at(epoch as u64)));
        self.cache.lock().recent = Some((epoch, Arc::clone(&plan)));
        plan
    }

    fn plan(&self, key: Key) -> Epoch {
        let Batching { size, sorted, accumulate } = self.batching;
        let accumulate = accumulate.max(1);
        let mut order = shuffle(key.with("order"), self.lengths.len());
        if sorted {
            for chunk in order.chunks_mut(self.examples_to_sort(accumulate)) {
                chunk.sort_by_key(|&index| self.lengths[index as usize]);
            }
        }
        let batches = batch_ranges(order.iter().map(|&index| self.lengths[index as usize]), size, sorted);
        let mut steps: Vec<Range<usize>> = (0..batches.len())
            .step_by(accumulate)
            .map(|first| first..(first + accumulate).min(batches.len()))
            .collect();
        if sorted {
            key.with("steps").stream().shuffle(&mut steps);
        }
        Epoch { order, batches, steps }
    }

    fn examples_to_sort(&self, accumulate: usize) -> usize {
        let examples = match self.batching.size {
            BatchSize::Examples(n) => n,
            BatchSize::Tokens(budget) => {
                let tokens: usize = self.lengths.iter().map(|&length| length as usize).sum();
                budget * self.lengths.len() / tokens.max(1)
            }
        };
        examples.max(1) * accumulate * STEPS_TO_SORT
    }
}

/// Cuts a sequence of examples of these lengths into batches of the size, keeping their order. Where `padded`, a
/// batch counts as its examples times its longest, otherwise as the sum of its examples.
pub fn batch_ranges(lengths: impl IntoIterator<Item = u32>, size: BatchSize, padded: bool) -> Vec<Range<usize>> {
    let mut batches = Vec::new();
    let (mut start, mut end) = (0, 0);
    let (mut sum, mut longest) = (0, 0);
    for length in lengths {
        let length = length as usize;
        let count = end - start + 1;
        let full = match size {
            BatchSize::Examples(n) => count > n.max(1),
            BatchSize::Tokens(n) if padded => count * length.max(longest) > n,
            BatchSize::Tokens(n) => sum + length > n,
        };
        if full && end > start {
            batches.push(start..end);
            (start, sum, longest) = (end, 0, 0);
        }
        sum += length;
        longest = longest.max(length);
        end += 1;
    }
    if end > start {
        batches.push(start..end);
    }
    batches
}
