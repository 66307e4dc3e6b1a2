//! Held-out text: every window once, with the same masks whoever measures.

use std::ops::Range;

use anyhow::{Context, Result};

use super::{Corpus, entry::MixEntry, words::WordCounts};
use crate::{
    network::batch::{BatchSize, Feed, Layout, Step, batch_ranges, lay_out},
    spec::Objective,
    support::random::Key,
};

/// All windows of a corpus in their order, one batch a step, for perplexity and masked accuracy.
pub struct HeldOut {
    entry: MixEntry,
    batches: Vec<Range<usize>>,
    layout: Layout,
}

impl HeldOut {
    /// Cuts the corpus for an objective, with batches of about this many tokens.
    ///
    /// # Errors
    ///
    /// As [`super::Mix::new`].
    pub fn new(
        objective: &Objective,
        corpus: &Corpus,
        max_length: usize,
        tokens: usize,
        layout: Layout,
    ) -> Result<Self> {
        let entry = MixEntry::new(objective, corpus, max_length, &mut WordCounts::default())?;
        let batches = batch_ranges(entry.lengths(), BatchSize::Tokens(tokens), false);
        Ok(Self { entry, batches, layout })
    }

    /// How many examples there are.
    pub fn examples(&self) -> usize {
        self.entry.examples()
    }
}

impl Feed for HeldOut {
    fn steps(&self) -> usize {
        self.batches.len()
    }

    fn step(&self, step: usize) -> Result<Step> {
        let batch = self.batches.get(step).with_context(|| format!("there is no held-out batch {step}"))?;
        // Not the recipe's seed: metrics of different runs are to be comparable. What is common to a batch in training
        // is drawn by example, so that a small corpus has every mode too.
        let key = Key::new(0).with("held_out");
        let example = |index: usize| self.entry.example(index, key.at(index as u64), key.at(index as u64));
        let examples = batch.clone().map(example).collect::<Result<Vec<_>>>()?;
        Ok(Step {
            batches: vec![lay_out(&examples, self.layout, key)],
            objective: self.entry.name.clone(),
            pair_weight: self.entry.pair_weight,
        })
    }
}
