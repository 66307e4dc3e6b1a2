//! The confusion matrix, and everything that follows from it alone.

use serde::{Deserialize, Serialize};

/// How often each gold class was predicted as each class: `[gold][predicted]`.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(transparent)]
pub struct Confusion(Vec<Vec<u64>>);

/// How well one class is found.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub struct ClassMetrics {
    /// Share of the rows predicted as this class that are of it; none where it was never predicted.
    pub precision: Option<f64>,
    /// Share of the rows of this class that were found; none where there are no such rows.
    pub recall: Option<f64>,
    /// Harmonic mean of the two, `2·tp / (2·tp + fp + fn)`; none where the class occurs on neither side.
    pub f1: Option<f64>,
    /// Rows of this class.
    pub support: u64,
}

impl Confusion {
    /// Counts pairs of a gold and a predicted class.
    ///
    /// # Panics
    /// Where a class isn't below `classes`.
    pub fn count(classes: usize, pairs: impl IntoIterator<Item = (usize, usize)>) -> Self {
        let mut counts = vec![vec![0; classes]; classes];
        for (gold, predicted) in pairs {
            counts[gold][predicted] += 1;
        }
        Self(counts)
    }

    /// The counts, `[gold][predicted]`.
    pub fn counts(&self) -> &[Vec<u64>] {
        &self.0
    }

    /// Number of rows counted.
    pub fn rows(&self) -> u64 {
        self.0.iter().flatten().sum()
    }

    /// Share of the rows on the diagonal; none where there are no rows.
    pub fn accuracy(&self) -> Option<f64> {
        let right = (0..self.0.len()).map(|class| self.0[class][class]).sum();
        ratio(right, self.rows())
    }

    /// Mean F1 of the classes that occur, as gold or as prediction; none where there are no rows.
    pub fn macro_f1(&self) -> Option<f64> {
        let scores: Vec<f64> = self.per_class().into_iter().filter_map(|class| class.f1).collect();
        (!scores.is_empty()).then(|| scores.iter().sum::<f64>() / scores.len() as f64)
    }

    /// The metrics of each class, in the order of the classes.
    pub fn per_class(&self) -> Vec<ClassMetrics> {
        (0..self.0.len())
            .map(|class| {
                let found = self.0[class][class];
                let support = self.0[class].iter().sum();
                let predicted = self.0.iter().map(|gold| gold[class]).sum();
                ClassMetrics {
                    precision: ratio(found, predicted),
                    recall: ratio(found, support),
                    f1: ratio(2 * found, support + predicted),
                    support,
                }
            })
            .collect()
    }
}

fn ratio(part: u64, whole: u64) -> Option<f64> {
    (whole > 0).then(|| part as f64 / whole as f64)
}
