//! How sure a linear classifier may be: the factor that makes its scores logits.

use rayon::prelude::*;

use super::classifier::log_probabilities;
use crate::support::math;

/// What scores are worth as logits, by rows that weren't learned.
#[derive(Clone, Copy, Debug)]
pub(super) struct Calibration {
    /// The factor at which the rows are most probable; 1 if there are none.
    pub(super) sharpness: f32,
    /// Their mean log-loss with that factor; 0 if there are none.
    pub(super) log_loss: f64,
}

impl Default for Calibration {
    /// Of no rows.
    fn default() -> Self {
        Self { sharpness: 1.0, log_loss: 0.0 }
    }
}

impl Calibration {
    /// Of the scores of rows with these labels.
    pub(super) fn of(scores: &[Vec<f32>], labels: &[usize]) -> Self {
        if labels.is_empty() {
            return Self::default();
        }
        let log_loss = |factor: f32| -> f64 {
            let rows = scores.par_iter().zip(labels);
            let each = rows.map(|(scores, label)| -f64::from(log_probabilities(scores, factor)[*label]));
            each.collect::<Vec<_>>().iter().sum::<f64>() / labels.len() as f64
        };
        // Sixteenths of powers of two are near enough to the least.
        let factors = (-48..=80).map(|step| math::pow(2.0, f64::from(step) / 16.0) as f32);
        let tried = factors.map(|sharpness| Self { sharpness, log_loss: log_loss(sharpness) });
        tried.min_by(|a, b| a.log_loss.total_cmp(&b.log_loss)).unwrap_or_default()
    }
}
