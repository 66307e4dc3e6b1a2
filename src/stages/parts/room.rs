//! What a training will take of the disk: said before it starts, so that nobody learns at its end that there's no room.

use crate::{
    engine::{
        executor::{Event, Job},
        store::free_space,
    },
    learning::train::Trainer,
    stages::estimate::bytes,
};

/// Bytes that a training writes.
pub(super) struct Room {
    /// Its result.
    pub(super) result: u64,
    /// A state that it can be resumed from. While a new one is written the one before is still there.
    state: u64,
    /// Whether one more is left for longer trainings.
    is_shared: bool,
}

impl Room {
    /// Of a training; `beside` tells whether the weights that it adapts are those of another stage, which aren't written
    /// twice.
    pub(super) fn new(job: &Job<'_>, trainer: &Trainer, keeps_best: bool, beside: bool) -> Self {
        let parameters = trainer.network.parameters();
        let weights = if beside { 4 * parameters.trainable() as u64 } else { parameters.bytes() };
        // The tokenizer and what else is there by now.
        let files = std::fs::read_dir(job.out).into_iter().flatten().flatten();
        let files: u64 = files.filter_map(|file| Some(file.metadata().ok()?.len())).sum();
        Self { result: weights + files, state: trainer.state_bytes(keeps_best), is_shared: job.trunk.is_some() }
    }

    /// Says what it will take, and whether that is there.
    pub(super) fn tell(&self, job: &Job<'_>) {
        let free = free_space(job.out);
        job.report(Event::Note(&self.text(free, job.state.bytes())));
    }

    /// `kept` is what a state takes up already that will be replaced.
    fn text(&self, free: Option<u64>, kept: u64) -> String {
        let Self { result, state, is_shared } = *self;
        let needs = format!("takes {} on the disk, and a checkpoint {}", bytes(result), bytes(state));
        let Some(free) = free else { return needs };
        let all = (2 * state).max(state + result + if is_shared { state } else { 0 });
        let has = bytes(free);
        match free + kept {
            room if room < result => {
                format!(
                    "warning: {needs}, but only {has} are free: the result will not fit (`pipe gc` lists what can go)"
                )
            }
            room if room < all => {
                format!("warning: {needs}, but only {has} are free: checkpoints may not fit, and the result goes first")
            }
            _ => format!("{needs}; {has} are free"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_disk_that_will_not_do_is_told_of_before() {
        let room = Room { result: 10_000_000, state: 30_000_000, is_shared: true };
        let text = |free: Option<u64>, kept| room.text(free, kept);
        assert!(text(Some(9_000_000), 0).contains("the result will not fit"));
        assert!(text(Some(9_000_000), 30_000_000).contains("checkpoints may not fit"));
        assert!(text(Some(69_000_000), 0).starts_with("warning: takes 10.0 MB on the disk, and a checkpoint 30.0 MB"));
        assert!(!text(Some(70_000_000), 0).contains("warning"));
        assert_eq!(text(None, 0), "takes 10.0 MB on the disk, and a checkpoint 30.0 MB");
    }
}
