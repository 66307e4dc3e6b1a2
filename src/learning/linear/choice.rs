//! Which of the linear classifiers is the best on rows that it doesn't learn from.

use std::cmp::Ordering;

use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use super::{
    Effort, Loss, Problem, Weights, calibration::Calibration, classifier::likeliest, features::Labelled, ratios,
};

/// What a feature counts for.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Weighting {
    /// TF-IDF.
    TfIdf,
    /// The same times the log-count ratios of naive Bayes.
    NaiveBayes,
}

/// How a linear classifier is trained.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Serialize)]
pub struct Settings {
    /// What features count for.
    pub weighting: Weighting,
    /// What is minimized.
    pub loss: Loss,
    /// What the loss counts for beside the size of the weights: scikit-learn's `C`.
    pub cost: f64,
}

/// A classifier that was tried.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Serialize)]
pub struct Trial {
    /// How it was trained.
    #[serde(flatten)]
    pub settings: Settings,
    /// Its accuracy on the rows to choose by.
    pub accuracy: f64,
    /// Its log-loss on these, with the scores' best factor: it decides between equally accurate ones.
    pub log_loss: f64,
}

impl Trial {
    /// Greater is better.
    fn compare(&self, other: &Self) -> Ordering {
        self.accuracy.total_cmp(&other.accuracy).then(other.log_loss.total_cmp(&self.log_loss))
    }
}

/// What is tried, from the simplest to the most flexible: of each kind the costs go up for as long as that helps.
const TRIED: [(Weighting, Loss, &[f64]); 4] = [
    (Weighting::TfIdf, Loss::Logistic, &[1.0, 3.0, 10.0, 30.0]),
    (Weighting::TfIdf, Loss::SquaredHinge, &[0.1, 0.3, 1.0, 3.0]),
    (Weighting::NaiveBayes, Loss::Logistic, &[1.0, 3.0, 10.0, 30.0]),
    (Weighting::NaiveBayes, Loss::SquaredHinge, &[0.1, 0.3, 1.0, 3.0]),
];

/// What is taken where there's nothing to choose by.
const DEFAULT: Settings = Settings { weighting: Weighting::TfIdf, loss: Loss::Logistic, cost: 10.0 };

impl Settings {
    /// The weights that rows give.
    pub(super) fn learn(&self, rows: Labelled<'_>, effort: Effort) -> Weights {
        let Labelled { matrix, labels, classes, width } = rows;
        let scales = (self.weighting == Weighting::NaiveBayes).then(|| ratios(matrix, labels, classes, width));
        let problem = Problem { matrix, labels, classes, width, scales: scales.as_deref() };
        Weights::learn(&problem, self.loss, self.cost, effort)
    }
}

/// The best of what was tried.
pub(super) struct Best {
    pub(super) settings: Settings,
    pub(super) weights: Weights,
    /// The factor for its scores.
    pub(super) sharpness: f32,
}

/// Learns one set of rows with all that is tried, judges another, which isn't empty, and gives the best with all trials: of
/// equally good ones the first. Roughly at first, and then the best as closely as need be: to minimize all of them closely would
/// take minutes where labels are noisy.
pub(super) fn choose(learned: Labelled<'_>, held: Labelled<'_>) -> (Best, Vec<Trial>) {
    let of_kind = |(weighting, loss, costs): (Weighting, Loss, &[f64])| {
        let mut trials: Vec<Trial> = Vec::new();
        let mut highest = 0.0;
        for &cost in costs {
            let settings = Settings { weighting, loss, cost };
            let scores = scores(&settings.learn(learned, Effort::ROUGH), held);
            let log_loss = Calibration::of(&scores, held.labels).log_loss;
            let accuracy = accuracy(&scores, held.labels);
            trials.push(Trial { settings, accuracy, log_loss });
            if accuracy < highest {
                break;
            }
            highest = accuracy;
        }
        trials
    };
    let trials: Vec<Vec<Trial>> = TRIED.into_par_iter().map(of_kind).collect();
    let trials = trials.concat();
    // Of equally good ones `max_by` takes the last.
    let best = trials.iter().rev().max_by(|a, b| a.compare(b)).map_or(DEFAULT, |best| best.settings);
    let weights = best.learn(learned, Effort::CLOSE);
    let sharpness = Calibration::of(&scores(&weights, held), held.labels).sharpness as f32;
    (Best { settings: best, weights, sharpness }, trials)
}

impl Best {
    /// Where there's nothing to choose by.
    pub(super) fn by_default(learned: Labelled<'_>) -> Self {
        let Calibration { sharpness, .. } = Calibration::default();
        Self { settings: DEFAULT, weights: DEFAULT.learn(learned, Effort::CLOSE), sharpness: sharpness as f32 }
    }
}

/// The scores of the classes of each row.
fn scores(weights: &Weights, rows: Labelled<'_>) -> Vec<Vec<f32>> {
    let of_row = |row| {
        let mut scores = vec![0.0; rows.classes];
        weights.scores(rows.matrix, row, &mut scores);
        scores
    };
    (0..rows.labels.len()).map(of_row).collect()
}

fn accuracy(scores: &[Vec<f32>], labels: &[usize]) -> f64 {
    let right = scores.iter().zip(labels).filter(|(scores, label)| likeliest(scores) == **label);
    right.count() as f64 / labels.len().max(1) as f64
}
