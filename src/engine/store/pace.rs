//! How fast a training went, stretch by stretch.

use std::time::{SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};

/// Stretches that are kept at most; where there are more, two become one.
const MOST: usize = 256;

/// The time now, in seconds since 1970.
pub fn unix_time() -> f64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0.0, |since| since.as_secs_f64())
}

/// The stretches of a training, in the order of their steps.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
#[serde(transparent)]
pub struct Pace {
    stretches: Vec<Stretch>,
}

/// Some steps of a training.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Serialize)]
pub struct Stretch {
    /// The last of its steps, counted from 1.
    pub step: usize,
    /// When that was done, in seconds since 1970.
    pub at: f64,
    /// Input tokens without padding.
    pub tokens: usize,
    /// What the steps took, measurements and checkpoints taken out.
    pub seconds: f64,
}

impl Stretch {
    /// Tokens over seconds.
    pub fn tokens_per_second(&self) -> f64 {
        self.tokens as f64 / self.seconds.max(1e-9)
    }

    fn with(self, next: Self) -> Self {
        Self { tokens: self.tokens + next.tokens, seconds: self.seconds + next.seconds, ..next }
    }
}

impl Pace {
    /// The stretches.
    pub fn stretches(&self) -> &[Stretch] {
        &self.stretches
    }

    /// Whether nothing is known.
    pub fn is_empty(&self) -> bool {
        self.stretches.is_empty()
    }

    /// Adds the next stretch. All but the last have about the same number of steps: that of the first.
    pub fn add(&mut self, next: Stretch) {
        let whole = self.stretches.first().map_or(0, |first| first.step);
        let before = self.stretches.iter().rev().nth(1).map_or(0, |stretch| stretch.step);
        match self.stretches.last_mut() {
            Some(last) if last.step.saturating_sub(before) < whole => *last = last.with(next),
            _ => self.stretches.push(next),
        }
        if self.stretches.len() > MOST {
            let pairs = self.stretches.chunks(2);
            self.stretches = pairs.map(|pair| pair.iter().copied().reduce(Stretch::with).unwrap_or(pair[0])).collect();
        }
    }

    /// About when a step was done, in seconds since 1970; `None` where nothing is known.
    pub fn time_of(&self, step: usize) -> Option<f64> {
        let next = self.stretches.partition_point(|stretch| stretch.step < step);
        let Some(stretch) = self.stretches.get(next) else { return Some(self.stretches.last()?.at) };
        let (first, began) = match next.checked_sub(1) {
            Some(before) => (self.stretches[before].step, self.stretches[before].at),
            None => (0, stretch.at - stretch.seconds),
        };
        let share = step.saturating_sub(first) as f64 / stretch.step.saturating_sub(first).max(1) as f64;
        Some(began + share * (stretch.at - began))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// One token and one second a step, from second 1000 on.
    fn pace(steps: usize, every: usize) -> Pace {
        let mut pace = Pace::default();
        for step in (every..=steps).step_by(every) {
            pace.add(Stretch { step, at: 1000.0 + step as f64, tokens: every, seconds: every as f64 });
        }
        pace
    }

    #[test]
    fn few_stretches_are_kept_and_no_token_is_lost() {
        for steps in [1, 256, 257, 300, 5_000] {
            let pace = pace(steps, 1);
            let stretches = pace.stretches();
            assert!(stretches.len() <= MOST && stretches.len() >= steps.min(MOST / 2), "{}", stretches.len());
            assert_eq!(stretches.iter().map(|stretch| stretch.tokens).sum::<usize>(), steps);
            assert_eq!(stretches.last().map(|stretch| stretch.step), Some(steps));
            assert!(stretches.iter().all(|stretch| stretch.tokens_per_second() == 1.0));
            let sizes: Vec<_> = stretches.iter().map(|stretch| stretch.tokens).collect();
            assert!(sizes[..sizes.len() - 1].iter().all(|size| *size == sizes[0]), "{sizes:?}");
        }
    }

    #[test]
    fn each_step_has_a_time() {
        let pace = pace(100, 10);
        for step in [1, 9, 10, 11, 55, 100] {
            assert_eq!(pace.time_of(step), Some(1000.0 + step as f64));
        }
        assert_eq!(pace.time_of(101), Some(1100.0));
        assert_eq!(Pace::default().time_of(1), None);
    }
}
