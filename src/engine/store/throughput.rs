//! The throughput of a training, in windows of some steps each.

use std::time::{SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};

/// Windows that are kept at most; where there are more, each two neighbours become one.
const MOST: usize = 256;

/// The time now, in seconds since 1970.
pub fn unix_time() -> f64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0.0, |since| since.as_secs_f64())
}

/// How fast a training was on its way: windows of steps, in their order.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
#[serde(transparent)]
pub struct Throughput {
    windows: Vec<ThroughputWindow>,
}

/// Some steps of a training.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Serialize)]
pub struct ThroughputWindow {
    /// The last of its steps, counted from 1.
    pub step: usize,
    /// When that was done, in seconds since 1970.
    pub at: f64,
    /// Input tokens without padding.
    pub tokens: usize,
    /// What the steps took, measurements and checkpoints taken out.
    pub seconds: f64,
}

impl ThroughputWindow {
    /// Tokens over seconds.
    pub fn tokens_per_second(&self) -> f64 {
        self.tokens as f64 / self.seconds.max(1e-9)
    }

    fn with(self, next: Self) -> Self {
        Self { tokens: self.tokens + next.tokens, seconds: self.seconds + next.seconds, ..next }
    }
}

impl Throughput {
    /// The windows.
    pub fn windows(&self) -> &[ThroughputWindow] {
        &self.windows
    }

    /// Whether nothing is known.
    pub fn is_empty(&self) -> bool {
        self.windows.is_empty()
    }

    /// Adds the next window. All but the last have about the same number of steps: that of the first.
    pub fn add(&mut self, next: ThroughputWindow) {
        let whole = self.windows.first().map_or(0, |first| first.step);
        let before = self.windows.iter().rev().nth(1).map_or(0, |window| window.step);
        match self.windows.last_mut() {
            Some(last) if last.step.saturating_sub(before) < whole => *last = last.with(next),
            _ => self.windows.push(next),
        }
        if self.windows.len() > MOST {
            let pairs = self.windows.chunks(2);
            self.windows =
                pairs.map(|pair| pair.iter().copied().reduce(ThroughputWindow::with).unwrap_or(pair[0])).collect();
        }
    }

    /// About when a step was done, in seconds since 1970; `None` where nothing is known.
    pub fn time_of(&self, step: usize) -> Option<f64> {
        let next = self.windows.partition_point(|window| window.step < step);
        let Some(window) = self.windows.get(next) else { return Some(self.windows.last()?.at) };
        let (first, began) = match next.checked_sub(1) {
            Some(before) => (self.windows[before].step, self.windows[before].at),
            None => (0, window.at - window.seconds),
        };
        let share = step.saturating_sub(first) as f64 / window.step.saturating_sub(first).max(1) as f64;
        Some(began + share * (window.at - began))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// One token and one second a step, from second 1000 on.
    fn throughput(steps: usize, every: usize) -> Throughput {
        let mut throughput = Throughput::default();
        for step in (every..=steps).step_by(every) {
            throughput.add(ThroughputWindow { step, at: 1000.0 + step as f64, tokens: every, seconds: every as f64 });
        }
        throughput
    }

    #[test]
    fn few_stretches_are_kept_and_no_token_is_lost() {
        for steps in [1, 256, 257, 300, 5_000] {
            let throughput = throughput(steps, 1);
            let windows = throughput.windows();
            assert!(windows.len() <= MOST && windows.len() >= steps.min(MOST / 2), "{}", windows.len());
            assert_eq!(windows.iter().map(|window| window.tokens).sum::<usize>(), steps);
            assert_eq!(windows.last().map(|window| window.step), Some(steps));
            assert!(windows.iter().all(|window| window.tokens_per_second() == 1.0));
            let sizes: Vec<_> = windows.iter().map(|window| window.tokens).collect();
            assert!(sizes[..sizes.len() - 1].iter().all(|size| *size == sizes[0]), "{sizes:?}");
        }
    }

    #[test]
    fn each_step_has_a_time() {
        let throughput = throughput(100, 10);
        for step in [1, 9, 10, 11, 55, 100] {
            assert_eq!(throughput.time_of(step), Some(1000.0 + step as f64));
        }
        assert_eq!(throughput.time_of(101), Some(1100.0));
        assert_eq!(Throughput::default().time_of(1), None);
    }
}
