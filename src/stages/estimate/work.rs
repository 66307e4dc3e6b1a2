//! What a step of a training stage looks at: tokens, how many of them are predicted, and the data behind them.

use std::{collections::BTreeSet, path::PathBuf, sync::Arc};

use anyhow::Result;

use super::{
    machine::Machine,
    samples::{RowLengths, Samples},
};
use crate::{
    engine::plan::{Graph, Node},
    learning::train::optimizers::{self, UpdateRule},
    spec::{Batch, MicroBatch, Train},
    stages::facts::{Field, Training, TrainingData},
};

/// Tokens that are judged at a time while a model is measured.
pub(crate) const JUDGED_TOKENS: usize = 8192;

/// The largest step of a stage.
#[derive(Clone, Debug)]
pub(super) struct Work {
    /// Tokens that a device computes at a time.
    pub(super) tokens: u64,
    /// The longest sequence.
    pub(super) length: u64,
    /// Share of the tokens that are predicted over the whole vocabulary.
    pub(super) predicted: f64,
    /// Whether gradients of several batches are added up.
    pub(super) accumulates: bool,
    /// Whether the best weights are kept beside the last.
    pub(super) keeps_best: bool,
    /// Whether an average of the weights is kept beside them.
    pub(super) averages: bool,
    /// Whether the backward pass computes activations again.
    pub(super) recomputes: bool,
    /// Tokens that are looked at together while measuring.
    pub(super) judged: u64,
    /// Bytes of the data as it lies in memory.
    pub(super) data: u64,
    /// Replicas of what is trained, in the memory that is looked at.
    pub(super) replicas: u64,
    /// What keeps something of each parameter.
    pub(super) optimizer: Arc<dyn UpdateRule>,
}

impl Work {
    pub(super) fn new(
        graph: &Graph,
        node: &Node,
        training: &Training,
        machine: &Machine,
        samples: &Samples,
    ) -> Result<Self> {
        let train = &training.train;
        let mut work = Self {
            tokens: 0,
            length: train.max_length as u64,
            predicted: training.predicted,
            accumulates: train.accumulate > 1,
            keeps_best: train.keep_best.is_some(),
            averages: train.average.is_some(),
            recomputes: train.gradient_checkpointing,
            judged: 0,
            data: 0,
            replicas: machine.replicas(),
            optimizer: optimizers::of(train)?,
        };
        // Documents are cut into windows, most of them nearly as long as may be.
        let mut lengths = RowLengths { mean: train.max_length as f64, deviation: 0.0, rows: u64::MAX };
        match &training.data {
            // A corpus of UTF-8 has a token of two or four bytes for some four bytes of text, and sentence ends.
            TrainingData::Corpora(field) => {
                work.data = node.needs.get(field.0).and_then(|name| graph.get(name)).map_or(0, size_of_files);
            }
            TrainingData::Rows { source, field, task, dev } => {
                let measured = |source, field: &Field| {
                    let files = node.files.get(field.0).map(Vec::as_slice).unwrap_or_default();
                    samples.lengths(source, files, task, train.max_length)
                };
                lengths = measured(source, field)?.unwrap_or(lengths);
                // Texts, and for each of their tokens five integers.
                work.data = 8 * size_of_files(node);
                if let Some(source) = &dev.source {
                    let all = measured(source, &dev.field)?.map_or(u64::MAX, |dev| dev.tokens());
                    work.judged = all.min(JUDGED_TOKENS as u64);
                }
            }
        }
        let all = lengths.tokens();
        work.tokens = match train.batch {
            Batch::Tokens(tokens) => tokens as u64,
            Batch::Examples(examples) => lengths.most(examples, train.max_length),
        };
        work.tokens = work.tokens.min(all).max(1);
        work.share(train.accumulate as u64 * work.tokens, machine);
        if let MicroBatch::Tokens(tokens) = train.micro_batch {
            work.limit(tokens as u64);
        }
        Ok(work)
    }

    /// Of a step whose largest batch has so many token places.
    ///
    /// # Errors
    /// An optimizer that isn't known.
    pub(super) fn of_step(
        train: &Train,
        step: &crate::network::batch::Step,
        largest: u64,
        machine: &Machine,
    ) -> Result<Self> {
        let places: usize = step.batches.iter().map(|batch| batch.slots()).sum();
        let targets: usize = step.batches.iter().map(|batch| batch.targets.len()).sum();
        let mut work = Self {
            tokens: largest,
            length: train.max_length as u64,
            predicted: targets as f64 / places.max(1) as f64,
            accumulates: step.batches.len() > 1,
            keeps_best: train.keep_best.is_some(),
            averages: train.average.is_some(),
            recomputes: train.gradient_checkpointing,
            judged: 0,
            data: 0,
            replicas: machine.replicas(),
            optimizer: optimizers::of(train)?,
        };
        work.share(places as u64, machine);
        Ok(work)
    }

    /// Shares a step of so many tokens out over the machine's devices; one sequence at least is computed at a time.
    fn share(&mut self, tokens: u64, machine: &Machine) {
        let share = tokens.div_ceil(machine.devices.max(1) as u64);
        self.tokens = self.tokens.min(share.max(self.length));
        self.accumulates &= share > self.tokens;
    }

    /// Computes no more than this at a time, but one sequence.
    pub(super) fn limit(&mut self, tokens: u64) {
        if tokens < self.tokens {
            self.tokens = tokens.max(self.length.min(self.tokens));
            self.accumulates = true;
        }
    }

    /// Halves what is computed at a time until `memory` of it fits into what is `available`, or it's one sequence.
    pub(super) fn fit(&mut self, available: u64, memory: impl Fn(&Self) -> u64) {
        while memory(self) > available && self.tokens > self.length {
            self.limit(self.tokens / 2);
        }
    }

    /// Tokens that are predicted over the whole vocabulary.
    pub(super) fn targets(&self) -> u64 {
        (self.tokens as f64 * self.predicted).ceil() as u64
    }
}

fn size_of_files(node: &Node) -> u64 {
    let size = |file: &PathBuf| std::fs::metadata(file).ok().filter(|file| file.is_file()).map_or(0, |file| file.len());
    let paths: BTreeSet<&PathBuf> = node.files.values().flatten().collect();
    paths.into_iter().map(size).sum()
}
