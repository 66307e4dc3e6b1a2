//! A weighted mix of objectives: which one a step draws, and what it sees.

use std::collections::BTreeSet;

use anyhow::{Context, Result, bail};

use super::{Corpus, entry::MixEntry};
use crate::{
    network::batch::{
        BatchSampler, Example, Feed, Layout, MadeOf, Outline, Remark, Step, StepIndices, StepLosses, lay_out,
    },
    spec,
    support::random::{Categorical, Key},
};

/// The training steps of a pretrain stage.
///
/// Each step draws an entry by weight. Each entry has windows, epochs and an order of its own, so that however the
/// others are drawn, it sees all of the corpus once before it sees anything twice.
pub struct Mix {
    entries: Vec<(MixEntry, BatchSampler)>,
    /// For each step the entry, and how often it was drawn before.
    draws: Vec<(u32, u32)>,
    epoch_steps: usize,
    layout: Layout,
    key: Key,
}

impl Mix {
    /// Cuts the corpus for each objective that has weight, and draws the steps.
    ///
    /// # Errors
    ///
    /// Where the corpus can't be read or is too small for an objective, which the message names, or where an entry
    /// isn't one of the combinations that a recipe may have.
    pub fn new(
        objectives: &[spec::Objective],
        corpus: &Corpus,
        train: &spec::Train,
        seed: u64,
        layout: Layout,
    ) -> Result<Self> {
        let key = Key::new(seed).with("pretrain");
        let drawn: Vec<_> = objectives.iter().filter(|objective| objective.weight > 0.0).collect();
        let Some(choice) = Categorical::new(drawn.iter().map(|objective| objective.weight)) else {
            bail!("no objective has a weight above 0");
        };
        let mut entries = Vec::with_capacity(drawn.len());
        for (index, objective) in (0..).zip(&drawn) {
            let entry = MixEntry::new(objective, corpus, train.max_length)?;
            let schedule = BatchSampler::new(entry.lengths(), train.into(), key.with("schedule").at(index));
            entries.push((entry, schedule));
        }

        let weights = drawn.iter().map(|objective| objective.weight);
        let pass = pass(weights.zip(entries.iter().map(|(_, schedule)| schedule.epoch_steps(0))));
        let steps = match (train.steps, train.epochs, entries.as_slice()) {
            (Some(steps), _, _) => steps,
            (None, Some(epochs), [(_, schedule)]) => schedule.steps(epochs),
            (None, Some(epochs), _) => (epochs * pass).round().max(1.0) as usize,
            (None, None, _) => bail!("neither steps nor epochs say how long to train"),
        };
        let mut seen = vec![0; entries.len()];
        let draw = |step| {
            let entry = choice.pick(key.with("entry").at(step as u64).f64());
            let before = seen[entry];
            seen[entry] += 1;
            (entry as u32, before)
        };
        let draws = (0..steps).map(draw).collect();
        Ok(Self { entries, draws, epoch_steps: pass.ceil() as usize, layout, key })
    }

    /// How many examples each entry has, by its name.
    pub fn examples(&self) -> Vec<(&str, usize)> {
        self.entries.iter().map(|(entry, _)| (entry.name.as_str(), entry.examples())).collect()
    }

    /// What a step draws.
    fn drawn(&self, step: usize) -> Result<Drawn<'_>> {
        let &(index, drawn) =
            self.draws.get(step).with_context(|| format!("step {step} lies beyond the last, {}", self.draws.len()))?;
        let (entry, schedule) = &self.entries[index as usize];
        let planned = schedule.step(drawn as usize);
        // What is common to a batch is common to the step, so that micro-batches don't change it.
        let common = self.key.with("step").at(step as u64);
        let own = self.key.with("example").at(u64::from(index)).at(planned.epoch as u64);
        Ok(Drawn { entry, planned, common, own })
    }
}

/// An entry of the mix that a step draws, with the numbers of its examples and their random keys.
struct Drawn<'a> {
    entry: &'a MixEntry,
    planned: StepIndices,
    common: Key,
    own: Key,
}

impl Feed for Mix {
    fn steps(&self) -> usize {
        self.draws.len()
    }

    fn step(&self, step: usize) -> Result<Step> {
        let Drawn { entry, planned, common, own } = self.drawn(step)?;
        let dropout = self.key.with("dropout").at(step as u64);
        let batch = |indices: &Vec<u32>| {
            let example = |&index: &u32| entry.example(index as usize, common, own.at(u64::from(index)));
            let examples = indices.iter().map(example).collect::<Result<Vec<_>>>()?;
            Ok(lay_out(&examples, self.layout, dropout))
        };
        Ok(Step {
            batches: planned.batches.iter().map(batch).collect::<Result<_>>()?,
            objective: entry.name.clone(),
            pair_weight: entry.pair_weight,
        })
    }

    fn epoch_steps(&self) -> usize {
        self.epoch_steps
    }

    fn objectives(&self) -> Vec<String> {
        let mut names: Vec<String> = self.entries.iter().map(|(entry, _)| entry.name.clone()).collect();
        names.sort_unstable();
        names.dedup();
        names
    }

    fn outline(&self, step: usize) -> Result<Outline> {
        let Drawn { entry, planned, .. } = self.drawn(step)?;
        let batch = |indices: &Vec<u32>| -> Vec<MadeOf> {
            indices.iter().map(|&index| entry.window(index as usize).into()).collect()
        };
        Ok(Outline { objective: entry.name.clone(), batches: planned.batches.iter().map(batch).collect() })
    }

    fn remarks(&self, step: usize, batches: &[Vec<Example>]) -> Result<Vec<Vec<Vec<Remark>>>> {
        let Drawn { entry, planned, common, own } = self.drawn(step)?;
        let remarks = |(&index, example): (&u32, &Example)| {
            entry.remarks(index as usize, common, own.at(u64::from(index)), example)
        };
        let batch =
            |(indices, examples): (&Vec<u32>, &Vec<Example>)| indices.iter().zip(examples).map(remarks).collect();
        planned.batches.iter().zip(batches).map(batch).collect()
    }

    fn losses(&self) -> Vec<StepLosses> {
        let drawn: BTreeSet<u32> = self.draws.iter().map(|(entry, _)| *entry).collect();
        let losses = drawn.into_iter().map(|entry| {
            let MixEntry { name, parts, .. } = &self.entries[entry as usize].0;
            StepLosses { objective: name.clone(), parts: parts.clone() }
        });
        let losses: Vec<_> = losses.collect();
        if losses.iter().all(|one| one.parts.is_none() && one.objective == losses[0].objective) {
            return Vec::new();
        }
        losses
    }
}

/// Steps in which the entries together see as many windows as one pass over the corpus has, out of each entry's
/// weight and steps an epoch.
fn pass(entries: impl Iterator<Item = (f64, usize)> + Clone) -> f64 {
    let total: f64 = entries.clone().map(|(weight, _)| weight).sum();
    // A step of an entry is one part in `steps` of a pass.
    let share: f64 = entries.map(|(weight, steps)| weight / total / steps.max(1) as f64).sum();
    1.0 / share
}
