//! The learning rate at each step.

use std::f64::consts::PI;

use crate::{spec, support::math};

/// Linear warm-up, then a fall or none.
///
/// With `w` warm-up steps, `n` steps in all, a peak `p` and a floor `r`, step `k` (counted from 0) has the rate
///
/// * `p k / w` for `k < w`, and from then on, with `x = (k - w) / (n - w)`, which runs from 0 up to just below 1:
/// * linear: `p (r + (1 - r) (1 - x))`,
/// * cosine: `p (r + (1 - r) (1 + cos(π x)) / 2)`,
/// * constant: `p`.
///
/// These are the schedules of Hugging Face's `get_*_schedule_with_warmup` for `r = 0`: with a warm-up, the very first
/// step only fills the optimizer's moments.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct LrSchedule {
    /// The decay after the warm-up.
    pub kind: spec::Schedule,
    /// The highest rate.
    pub peak: f64,
    /// Steps of warm-up.
    pub warmup: usize,
    /// Steps in all.
    pub steps: usize,
    /// Where linear and cosine end, as a share of the peak.
    pub min_ratio: f64,
}

impl LrSchedule {
    /// As a recipe has it, for `steps` steps; a share of warm-up is rounded up to whole steps.
    pub fn new(train: &spec::Train, steps: usize) -> Self {
        let share = train.warmup_ratio.map(|ratio| (ratio * steps as f64).ceil() as usize);
        Self {
            kind: train.schedule,
            peak: train.lr,
            warmup: train.warmup_steps.or(share).unwrap_or(0),
            steps,
            min_ratio: train.min_lr_ratio,
        }
    }

    /// The rate of a step, counted from 0.
    pub fn rate(&self, step: usize) -> f64 {
        if step < self.warmup {
            return self.peak * step as f64 / self.warmup as f64;
        }
        let past = (step - self.warmup) as f64 / self.steps.saturating_sub(self.warmup).max(1) as f64;
        let past = past.min(1.0);
        let left = match self.kind {
            spec::Schedule::Linear => 1.0 - past,
            spec::Schedule::Cosine => (1.0 + math::cos(PI * past)) / 2.0,
            spec::Schedule::Constant => 1.0,
        };
        self.peak * (self.min_ratio + (1.0 - self.min_ratio) * left)
    }
}
