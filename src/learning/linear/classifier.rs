//! A linear classifier at work.

use rayon::prelude::*;

use super::{Vocabulary, Weights};
use crate::support::math;

/// A linear classifier.
#[derive(Clone, Debug, PartialEq)]
pub struct LinearClassifier {
    /// Its features.
    pub vocabulary: Vocabulary,
    /// What it has learned.
    pub weights: Weights,
    /// Scores times this are logits.
    pub sharpness: f32,
}

impl LinearClassifier {
    /// The classes' log-probabilities for rows, given as columns of text.
    pub fn log_probabilities(&self, rows: &[Vec<&str>]) -> Vec<Vec<f32>> {
        let of_row = |columns: &Vec<&str>| {
            let matrix = self.vocabulary.matrix(&[self.vocabulary.ngrams.counts(columns)]);
            let mut scores = vec![0.0; self.weights.bias.len()];
            self.weights.scores(&matrix, 0, &mut scores);
            log_probabilities(&scores, self.sharpness)
        };
        rows.par_iter().map(of_row).collect()
    }

    /// The label that it gives each row, the first of equally likely ones.
    pub fn predict(&self, rows: &[Vec<&str>]) -> Vec<usize> {
        self.log_probabilities(rows).iter().map(|row| likeliest(row)).collect()
    }
}

/// The log-probabilities of scores that are logits when multiplied with a factor.
pub(super) fn log_probabilities(scores: &[f32], factor: f32) -> Vec<f32> {
    let logits = scores.iter().map(|score| f64::from(factor * score)).collect();
    log_softmax(logits).into_iter().map(|log| log as f32).collect()
}

/// The logarithm of the softmax.
pub(super) fn log_softmax(mut logits: Vec<f64>) -> Vec<f64> {
    let highest = logits.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let norm = highest + math::ln(logits.iter().map(|logit| math::exp(logit - highest)).sum());
    logits.iter_mut().for_each(|logit| *logit -= norm);
    logits
}

/// The class with the highest score, the first of several.
pub fn likeliest(scores: &[f32]) -> usize {
    (0..scores.len()).rev().max_by(|a, b| scores[*a].total_cmp(&scores[*b])).unwrap_or(0)
}
