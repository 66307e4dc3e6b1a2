//! The metrics of a classifier, out of its probabilities.

use anyhow::{Result, ensure};
use serde::{Deserialize, Serialize};

use super::{Calibration, ClassMetrics, Confusion};
use crate::support::math;

/// Probabilities are kept at least this far from 0 before their logarithm is taken, so that one confident mistake
/// doesn't make the mean infinite.
const LEAST_PROBABILITY: f64 = 1e-15;

/// A labelled row with what the model made of it.
#[derive(Clone, Copy, Debug)]
pub struct Scored<'a> {
    /// The number of its file, from 1.
    pub file: u32,
    /// Which of the file's rows it is, from 1; a header is none.
    pub row: u32,
    /// Its text.
    pub text: &'a str,
    /// Index of its label.
    pub gold: usize,
    /// Probability of each label, `[label]`, in the order of the labels.
    pub probabilities: &'a [f32],
}

impl Scored<'_> {
    /// Makes sure that the row fits so many labels.
    ///
    /// # Errors
    /// Where its label is none of them, or it has more or fewer probabilities.
    pub fn check(&self, labels: usize) -> Result<()> {
        let Self { row, gold, probabilities, .. } = self;
        ensure!(*gold < labels, "row {row}: label {gold} out of {labels}");
        ensure!(probabilities.len() == labels, "row {row}: {} probabilities for {labels} labels", probabilities.len());
        Ok(())
    }

    /// Probability of a label. NaN counts as 0: a model that diverged is a bad one, not a reason to stop.
    fn probability(&self, label: usize) -> f64 {
        f64::from(self.probabilities[label]).max(0.0)
    }

    /// The label with the highest probability, the first of equal ones.
    pub fn predicted(&self) -> usize {
        let mut best = 0;
        for label in 1..self.probabilities.len() {
            if self.probability(label) > self.probability(best) {
                best = label;
            }
        }
        best
    }

    /// Whether the prediction is right.
    pub fn correct(&self) -> bool {
        self.predicted() == self.gold
    }

    /// Probability of the predicted label.
    pub fn confidence(&self) -> f64 {
        self.probability(self.predicted())
    }

    /// `−ln p(gold)` in nats, with `p` at least 1e-15.
    pub fn loss(&self) -> f64 {
        // `−ln 1` is −0, which would be printed with its sign.
        -math::ln(self.probability(self.gold).clamp(LEAST_PROBABILITY, 1.0)) + 0.0
    }
}

/// All metrics of a classifier on some rows.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub struct Classification {
    /// Share of right predictions.
    pub accuracy: f64,
    /// Mean F1 of the classes that occur.
    pub macro_f1: f64,
    /// Mean of `−ln p(gold)`, in nats.
    pub log_loss: f64,
    /// Precision, recall, F1 and support of each class.
    pub per_class: Vec<ClassMetrics>,
    /// Calibration error and bins.
    pub calibration: Calibration,
    /// The confusion matrix.
    pub confusion: Confusion,
}

impl Classification {
    /// Measures the rows; none where there are none.
    ///
    /// # Panics
    /// Where a row's label isn't below `classes`, or it hasn't `classes` probabilities.
    pub fn measure<'a>(classes: usize, rows: impl Iterator<Item = &'a Scored<'a>> + Clone) -> Option<Self> {
        let confusion = Confusion::count(classes, rows.clone().map(|row| (row.gold, row.predicted())));
        let loss: f64 = rows.clone().map(Scored::loss).sum();
        Some(Self {
            accuracy: confusion.accuracy()?,
            macro_f1: confusion.macro_f1()?,
            per_class: confusion.per_class(),
            log_loss: loss / confusion.rows() as f64,
            calibration: Calibration::measure(rows.map(|row| (row.confidence(), row.correct())))?,
            confusion,
        })
    }
}
