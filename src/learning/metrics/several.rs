//! Several labels of a row: F1 over all answers, and over each label, at one threshold for all.

use serde::{Deserialize, Serialize};

use crate::support::math;

/// The threshold where there's nothing to choose by.
pub const HALF: f64 = 0.5;
/// The least probability that is told from 0.
const LEAST: f64 = 1e-12;

/// A row: the probability of each label, and whether the row has it.
pub type Judged<'a> = (&'a [f64], &'a [f32]);

/// How good a model that gives rows any number of labels is.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub struct SeveralLabels {
    /// F1 over the answers of all labels together: scikit-learn's `f1_score(average="micro")`.
    pub micro_f1: f64,
    /// The mean of the labels' F1, which is 0 for a label that neither is there nor is given: `average="macro"`.
    pub macro_f1: f64,
    /// Share of the rows whose labels are all right.
    pub exact: f64,
    /// The mean binary cross-entropy over all answers, in nats.
    pub loss: f64,
    /// Each label's figures.
    pub per_label: Vec<OneLabel>,
}

/// How good a label is told.
#[derive(Clone, Copy, Debug, Default, Deserialize, PartialEq, Serialize)]
pub struct OneLabel {
    /// Share of the rows with it among those that are given it; 0 where none is.
    pub precision: f64,
    /// Share of the rows that are given it among those with it; 0 where there is none.
    pub recall: f64,
    /// The harmonic mean of both.
    pub f1: f64,
    /// Rows with it.
    pub support: u64,
}

/// Right and wrong answers.
#[derive(Clone, Copy, Debug, Default)]
struct Counts {
    both: u64,
    given: u64,
    there: u64,
}

impl Counts {
    fn add(&mut self, given: bool, there: bool) {
        self.both += u64::from(given && there);
        self.given += u64::from(given);
        self.there += u64::from(there);
    }

    fn f1(self) -> f64 {
        share(2 * self.both, self.given + self.there)
    }
}

fn share(part: u64, of: u64) -> f64 {
    if of == 0 { 0.0 } else { part as f64 / of as f64 }
}

impl SeveralLabels {
    /// Measures rows of `labels` labels, each of which is given from the threshold on; none where there are no rows.
    pub fn measure<'a>(labels: usize, threshold: f64, rows: impl IntoIterator<Item = Judged<'a>>) -> Option<Self> {
        let (mut all, mut each) = (Counts::default(), vec![Counts::default(); labels]);
        let (mut count, mut exact, mut loss) = (0_u64, 0_u64, 0.0);
        for (probabilities, there) in rows {
            count += 1;
            let mut right = true;
            for ((probability, there), counts) in probabilities.iter().zip(there).zip(&mut each) {
                let (given, there) = (*probability >= threshold, *there > 0.5);
                all.add(given, there);
                counts.add(given, there);
                right &= given == there;
                let of_truth = if there { *probability } else { 1.0 - probability };
                loss -= math::ln(of_truth.max(LEAST));
            }
            exact += u64::from(right);
        }
        let per_label: Vec<OneLabel> = each
            .iter()
            .map(|counts| OneLabel {
                precision: share(counts.both, counts.given),
                recall: share(counts.both, counts.there),
                f1: counts.f1(),
                support: counts.there,
            })
            .collect();
        (count > 0).then(|| Self {
            micro_f1: all.f1(),
            macro_f1: per_label.iter().map(|label| label.f1).sum::<f64>() / labels.max(1) as f64,
            exact: share(exact, count),
            loss: loss / (count as f64 * labels.max(1) as f64),
            per_label,
        })
    }
}

/// The threshold at which these rows have the highest micro F1, midway between two probabilities; of equally good ones the
/// nearest to a half.
pub fn threshold<'a>(rows: impl IntoIterator<Item = Judged<'a>>) -> f64 {
    let mut answers: Vec<(f64, bool)> = rows
        .into_iter()
        .flat_map(|(probabilities, there)| probabilities.iter().zip(there).map(|(p, there)| (*p, *there > 0.5)))
        .collect();
    answers.sort_by(|a, b| b.0.total_cmp(&a.0));
    let there = answers.iter().filter(|(_, there)| *there).count() as u64;
    let (mut best, mut counts) = ((0.0, HALF), Counts { there, ..Counts::default() });
    for (index, (probability, is_there)) in answers.iter().enumerate() {
        counts.given += 1;
        counts.both += u64::from(*is_there);
        let next = answers.get(index + 1).map_or(0.0, |(next, _)| *next);
        if next.total_cmp(probability).is_eq() {
            continue;
        }
        let (f1, at) = (counts.f1(), f64::midpoint(*probability, next));
        let nearer = || (best.1 - HALF).abs().total_cmp(&(at - HALF).abs());
        if f1.total_cmp(&best.0).then_with(nearer).is_gt() {
            best = (f1, at);
        }
    }
    best.1
}

#[cfg(test)]
mod tests {
    use super::*;

    const SAID: [[f64; 3]; 4] = [[0.9, 0.2, 0.6], [0.4, 0.7, 0.1], [0.3, 0.45, 0.2], [0.8, 0.6, 0.55]];
    const THERE: [[f32; 3]; 4] = [[1.0, 0.0, 1.0], [0.0, 1.0, 0.0], [1.0, 1.0, 0.0], [1.0, 0.0, 0.0]];

    fn rows() -> impl Iterator<Item = Judged<'static>> {
        SAID.iter().zip(&THERE).map(|(said, there)| (said.as_slice(), there.as_slice()))
    }

    /// `f1_score(there, said >= .5, average=…)`, `precision_recall_fscore_support` and
    /// `torch.nn.functional.binary_cross_entropy(said, there)` of scikit-learn 1 and PyTorch 2.
    #[test]
    fn figures_are_scikit_learns() {
        let measured = SeveralLabels::measure(3, HALF, rows()).unwrap();
        let near = |found: f64, expected: f64| assert!((found - expected).abs() < 1e-6, "{found} not {expected}");
        near(measured.micro_f1, 0.6666667);
        near(measured.macro_f1, 0.6555556);
        near(measured.exact, 0.5);
        near(measured.loss, 0.4979797);
        let first = measured.per_label[0];
        assert_eq!((first.precision, first.support), (1.0, 3));
        near(first.recall, 2.0 / 3.0);
        assert!(SeveralLabels::measure(3, HALF, []).is_none());
    }

    /// `max((f1_score(there, said >= t, average="micro"), t) for t in …)`, with all `t` midway between two probabilities.
    #[test]
    fn the_threshold_is_the_best_for_micro_f1() {
        let found = threshold(rows());
        assert!((found - 0.25).abs() < 1e-9, "{found}");
        let measured = SeveralLabels::measure(3, found, rows()).unwrap();
        assert!((measured.micro_f1 - 0.8).abs() < 1e-9);
        assert!((threshold([]) - HALF).abs() < 1e-9);
    }
}
