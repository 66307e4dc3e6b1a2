//! What a training has measured so far: by this it's compared with others, and it's remembered when it pauses at a rung.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::spec::Rung;

/// Metrics on dev rows by name.
type DevMetrics = BTreeMap<String, f64>;

/// How far a training came, and what its dev rows told on the way.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
pub struct Measured {
    /// Steps done.
    pub step: usize,
    /// Steps in all.
    pub steps: usize,
    /// Whether it has come to its end, which early stopping may put before the last step.
    pub ended: bool,
    /// Evaluations: the steps before each, and the dev metrics.
    pub evaluations: Vec<(usize, DevMetrics)>,
}

impl Measured {
    /// The evaluations up to the one that counts at a rung; `None` while it hasn't been made.
    pub fn until(&self, rung: Rung) -> Option<&[(usize, DevMetrics)]> {
        let least = rung.least(self.steps);
        match self.evaluations.iter().position(|(step, _)| *step >= least) {
            Some(at) => Some(&self.evaluations[..=at]),
            None => self.ended.then_some(&self.evaluations),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn measured(step: usize, every: usize, ended: bool) -> Measured {
        let evaluations = (1..=step / every).map(|number| (number * every, DevMetrics::new())).collect();
        Measured { step, steps: 100, ended, evaluations }
    }

    #[test]
    fn a_rung_counts_at_the_next_measurement_or_at_the_end() {
        let last = |measured: &Measured, part| measured.until(Rung { part }).map(|made| made.last().map(|made| made.0));
        let whole = measured(100, 10, true);
        assert_eq!(last(&whole, 9), Some(Some(20)), "12 steps, and measured after 20");
        assert_eq!(last(&whole, 10), Some(Some(10)));
        assert_eq!(last(&measured(19, 10, false), 9), None);
        assert_eq!(last(&measured(20, 10, false), 9), Some(Some(20)));
        assert_eq!(last(&measured(20, 10, false), 2), None);
        // Stopped early.
        assert_eq!(last(&measured(30, 10, true), 2), Some(Some(30)));
    }
}
