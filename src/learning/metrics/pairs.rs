//! The metrics of judgements on sentence pairs.

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

/// Sums over the pairs that a model judged.
#[derive(Clone, Copy, Debug, Default, Deserialize, PartialEq, Serialize)]
pub struct PairTally {
    /// Judged pairs.
    pub pairs: u64,
    /// Those whose label was the likelier one.
    pub correct: u64,
    /// Those whose label is 1: B from elsewhere, or exchanged.
    pub changed: u64,
    /// Sum of `−ln p(label)`, in nats.
    pub nll: f64,
}

impl PairTally {
    /// Counts a pair by its label and the logarithms of the probabilities of both.
    pub fn judged(&mut self, label: u32, [same, changed]: [f64; 2]) {
        let (right, wrong) = if label == 0 { (same, changed) } else { (changed, same) };
        self.pairs += 1;
        self.changed += u64::from(label != 0);
        self.correct += u64::from(right > wrong);
        self.nll -= right;
    }

    /// Adds another tally to this one.
    pub fn add(&mut self, other: &Self) {
        self.pairs += other.pairs;
        self.correct += other.correct;
        self.changed += other.changed;
        self.nll += other.nll;
    }

    /// The metrics of a task by name; what couldn't be measured is null. The majority is what always giving the commoner
    /// label would be right in.
    pub fn metrics(&self, task: &str) -> [(String, Value); 4] {
        let share = |count: f64| (self.pairs > 0).then(|| count / self.pairs as f64);
        let commoner = self.changed.max(self.pairs - self.changed);
        [
            ("accuracy", json!(share(self.correct as f64))),
            ("majority", json!(share(commoner as f64))),
            ("loss", json!(share(self.nll))),
            ("pairs", json!(self.pairs)),
        ]
        .map(|(name, value)| (format!("{task}_{name}"), value))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tally_has_accuracy_majority_and_loss() {
        let mut tally = PairTally::default();
        let log = |p: f64| [(1.0 - p).ln(), p.ln()];
        // scikit-learn's accuracy_score and log_loss of these are 0.75 and 0.8310590851315067.
        for (label, changed) in [(0, 0.25), (1, 0.6), (1, 0.8), (1, 0.1)] {
            tally.judged(label, log(changed));
        }
        let metrics = tally.metrics("next_sentence");
        let figures: Vec<f64> = metrics.iter().map(|(_, value)| value.as_f64().unwrap()).collect();
        assert_eq!(metrics.map(|(name, _)| name)[1], "next_sentence_majority");
        assert_eq!((figures[0], figures[1], figures[3]), (0.75, 0.75, 4.0));
        assert!((figures[2] - 0.8310590851315067).abs() < 1e-12, "{}", figures[2]);
        assert_eq!(PairTally::default().metrics("x")[0].1, Value::Null);
    }
}
