//! The training steps of a finetune stage.

use anyhow::{Result, bail, ensure};

use crate::{
    network::batch::{BatchSampler, Example, Feed, Layout, MadeOf, Outline, Step, lay_out},
    spec,
    support::random::Key,
};

/// Prepared examples, in an order of each epoch's own.
pub struct RowFeed {
    objective: &'static str,
    examples: Vec<Example>,
    schedule: BatchSampler,
    steps: usize,
    layout: Layout,
    key: Key,
}

impl RowFeed {
    /// Plans the steps. `objective` is what curves call them.
    ///
    /// # Errors
    ///
    /// Where there's nothing to learn from, or no length.
    pub fn new(
        objective: &'static str,
        examples: Vec<Example>,
        train: &spec::Train,
        seed: u64,
        layout: Layout,
    ) -> Result<Self> {
        ensure!(!examples.is_empty(), "there are no rows to learn from");
        let key = Key::new(seed).with("finetune");
        let lengths = examples.iter().map(|example| example.tokens.len() as u32).collect();
        let schedule = BatchSampler::new(lengths, train.into(), key.with("schedule"));
        let steps = match (train.steps, train.epochs) {
            (Some(steps), _) => steps,
            (None, Some(epochs)) => schedule.steps(epochs),
            (None, None) => bail!("neither steps nor epochs say how long to train"),
        };
        Ok(Self { objective, examples, schedule, steps, layout, key })
    }
}

impl Feed for RowFeed {
    fn steps(&self) -> usize {
        self.steps
    }

    fn step(&self, step: usize) -> Result<Step> {
        ensure!(step < self.steps, "step {step} lies beyond the last, {}", self.steps);
        let dropout = self.key.with("dropout").at(step as u64);
        let batch = |indices: &Vec<u32>| {
            let examples: Vec<&Example> = indices.iter().map(|&index| &self.examples[index as usize]).collect();
            lay_out(&examples, self.layout, dropout)
        };
        let batches = self.schedule.step(step).batches.iter().map(batch).collect();
        Ok(Step { batches, objective: self.objective.into(), pair_weight: 1.0 })
    }

    fn epoch_steps(&self) -> usize {
        self.schedule.epoch_steps(0)
    }

    fn objectives(&self) -> Vec<String> {
        vec![self.objective.to_owned()]
    }

    fn outline(&self, step: usize) -> Result<Outline> {
        let row = |&index: &u32| MadeOf::row(self.examples[index as usize].id);
        let batches = self.schedule.step(step).batches.iter().map(|batch| batch.iter().map(row).collect()).collect();
        Ok(Outline { objective: self.objective.into(), batches })
    }
}
