//! Which of the linear classifiers is the best on rows that it doesn't learn from.

use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use super::{Effort, Loss, Matrix, Problem, Weights, ratios};

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
}

/// Labelled rows as a matrix.
#[derive(Clone, Copy, Debug)]
pub(super) struct Labelled<'a> {
    pub matrix: &'a Matrix,
    pub labels: &'a [usize],
    pub classes: usize,
    pub width: usize,
}

/// What is tried, from the simplest to the most flexible: of each kind the costs go up for as long as that helps.
const TRIED: [(Weighting, Loss, &[f64]); 4] = [
    (Weighting::TfIdf, Loss::Logistic, &[1.0, 3.0, 10.0, 30.0]),
    (Weighting::TfIdf, Loss::SquaredHinge, &[0.1, 0.3, 1.0, 3.0]),
    (Weighting::NaiveBayes, Loss::Logistic, &[1.0, 3.0, 10.0, 30.0]),
    (Weighting::NaiveBayes, Loss::SquaredHinge, &[0.1, 0.3, 1.0, 3.0]),
];

/// What is taken where there's nothing to choose by.
pub(super) const DEFAULT: Settings = Settings { weighting: Weighting::TfIdf, loss: Loss::Logistic, cost: 10.0 };

impl Settings {
    /// The weights that rows give.
    pub(super) fn learn(&self, rows: Labelled<'_>) -> Weights {
        let Labelled { matrix, labels, classes, width } = rows;
        let scales = (self.weighting == Weighting::NaiveBayes).then(|| ratios(matrix, labels, classes, width));
        let problem = Problem { matrix, labels, classes, width, scales: scales.as_deref() };
        Weights::learn(&problem, self.loss, self.cost, Effort::default())
    }
}

/// Learns one set of rows with all that is tried, judges another, and gives the best settings with the weights that they gave:
/// of equally good ones the first.
pub(super) fn choose(learned: Labelled<'_>, held: Labelled<'_>) -> (Weights, Settings, Vec<Trial>) {
    let families: Vec<Vec<(Trial, Weights)>> = TRIED
        .into_par_iter()
        .map(|(weighting, loss, costs)| {
            let mut tried: Vec<(Trial, Weights)> = Vec::new();
            for &cost in costs {
                let settings = Settings { weighting, loss, cost };
                let weights = settings.learn(learned);
                let accuracy = accuracy(&weights, held);
                let best = tried.iter().map(|(trial, _)| trial.accuracy).fold(f64::NEG_INFINITY, f64::max);
                // Of those that aren't the best of their kind only the figures are kept.
                let kept = if accuracy > best {
                    tried.iter_mut().for_each(|(_, weights)| *weights = Weights::default());
                    weights
                } else {
                    Weights::default()
                };
                tried.push((Trial { settings, accuracy }, kept));
                if accuracy < best {
                    break;
                }
            }
            tried
        })
        .collect();
    let mut tried: Vec<(Trial, Weights)> = families.into_iter().flatten().collect();
    let best = (0..tried.len()).rev().max_by(|a, b| tried[*a].0.accuracy.total_cmp(&tried[*b].0.accuracy)).unwrap_or(0);
    let trials = tried.iter().map(|(trial, _)| *trial).collect();
    let (Trial { settings, .. }, weights) = tried.swap_remove(best);
    (weights, settings, trials)
}

fn accuracy(weights: &Weights, rows: Labelled<'_>) -> f64 {
    let mut scores = vec![0.0; rows.classes];
    let right = rows.labels.iter().enumerate().filter(|(row, label)| {
        weights.scores(rows.matrix, *row, &mut scores);
        likeliest(&scores) == **label
    });
    right.count() as f64 / rows.labels.len().max(1) as f64
}

/// The class with the highest score, the first of several.
pub(super) fn likeliest(scores: &[f32]) -> usize {
    (0..scores.len()).rev().max_by(|a, b| scores[*a].total_cmp(&scores[*b])).unwrap_or(0)
}
