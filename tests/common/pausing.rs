//! Trainings that are paused.

use pipe::learning::train::{Observer, Progress};

/// Pauses after some step.
pub struct Pausing(pub usize);

impl Observer for Pausing {
    fn progressed(&mut self, _progress: &Progress) {}

    fn pauses(&mut self, step: usize) -> bool {
        step >= self.0
    }
}
