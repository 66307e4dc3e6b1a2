//! Timing: throughput, and when the next checkpoint is due. Neither changes the result.

use std::time::{Duration, Instant};

use super::checkpoints::Cadence;

/// The share of its time that a training spends on storing states is at most one in this.
const SHARE: u32 = 20;

/// Tokens and the time they took, measurements and checkpoints taken out.
pub(super) struct Meter {
    pub(super) tokens: usize,
    /// Floating-point operations.
    pub(super) flops: f64,
    /// Time spent waiting for batches.
    pub(super) waited: Duration,
    started: Instant,
    pub(super) paused: Duration,
}

impl Meter {
    pub(super) fn start() -> Self {
        Self { tokens: 0, flops: 0.0, waited: Duration::ZERO, started: Instant::now(), paused: Duration::ZERO }
    }

    pub(super) fn seconds(&self) -> f64 {
        self.started.elapsed().saturating_sub(self.paused).as_secs_f64()
    }

    pub(super) fn rate(&self) -> f64 {
        self.per_second(self.tokens as f64)
    }

    pub(super) fn per_second(&self, amount: f64) -> f64 {
        amount / self.seconds().max(1e-9)
    }
}

/// When the next state is due.
pub(super) struct Timer {
    since: Instant,
    cost: Duration,
}

impl Timer {
    pub(super) fn start() -> Self {
        Self { since: Instant::now(), cost: Duration::ZERO }
    }

    /// Whether a state is due after so many steps.
    pub(super) fn is_due(&self, every: Cadence, step: usize) -> bool {
        match every {
            Cadence::Steps(steps) => step.is_multiple_of(steps.max(1)),
            Cadence::Time(time) => self.since.elapsed() >= time.max(self.cost * SHARE),
        }
    }

    /// Notes that a state was stored since `began`.
    pub(super) fn stored(&mut self, began: Instant) {
        *self = Self { since: Instant::now(), cost: began.elapsed() };
    }
}
