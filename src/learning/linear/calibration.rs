//! How sure a linear classifier may be: the factor that makes its scores logits.

use rayon::prelude::*;

use super::{Weights, classifier::log_softmax, features::Labelled};
use crate::support::math;

/// What scores are worth as logits, by rows that weren't learned.
#[derive(Clone, Copy, Debug)]
pub(super) struct Calibration {
    /// The factor at which the rows are most probable; 1 if there are none.
    pub(super) sharpness: f32,
    /// Their mean log-loss with that factor; 0 if there are none.
    pub(super) log_loss: f64,
}

impl Calibration {
    /// Of weights on rows that they weren't learned from.
    pub(super) fn of(weights: &Weights, rows: Labelled<'_>) -> Self {
        let mut scores = vec![0.0; rows.classes];
        let of_row = |row| {
            weights.scores(rows.matrix, row, &mut scores);
            scores.clone()
        };
        let all: Vec<Vec<f32>> = (0..rows.labels.len()).map(of_row).collect();
        let log_loss = |factor: f32| -> f64 {
            let each =
                all.par_iter().zip(rows.labels).map(|(scores, label)| -f64::from(log_softmax(scores, factor)[*label]));
            each.collect::<Vec<_>>().iter().sum::<f64>() / all.len() as f64
        };
        // Sixteenths of powers of two are near enough to the least.
        let factors = (-48..=80).map(|step| math::pow(2.0, f64::from(step) / 16.0) as f32);
        let tried =
            factors.filter(|_| !all.is_empty()).map(|sharpness| Self { sharpness, log_loss: log_loss(sharpness) });
        let best = tried.min_by(|a, b| a.log_loss.total_cmp(&b.log_loss));
        best.unwrap_or(Self { sharpness: 1.0, log_loss: 0.0 })
    }
}
