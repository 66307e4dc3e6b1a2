//! How sure a classifier may be: the factor by which its scores become logits.

use super::classifier::log_softmax;
use crate::support::math;

/// What scores are worth as logits, by rows that weren't learned.
#[derive(Clone, Copy, Debug)]
pub(super) struct Calibration {
    /// The factor at which the rows are most probable; 1 if there are none.
    pub(super) sharpness: f64,
    /// Their mean log-loss with that factor; 0 if there are none.
    pub(super) log_loss: f64,
}

/// Steps of Newton's method.
const STEPS: usize = 50;
/// Added to the curvature, so that a step is finite where all labels are equally likely.
const RIDGE: f64 = 1e-6;
/// The least and the greatest factor: rows that are all told right would have it grow without end.
const BOUNDS: (f64, f64) = (1e-3, 32.0);

impl Default for Calibration {
    /// Of no rows.
    fn default() -> Self {
        Self { sharpness: 1.0, log_loss: 0.0 }
    }
}

impl Calibration {
    /// Of the scores of rows with these labels. The log-loss is convex in the factor.
    pub(super) fn of<S: Copy + Into<f64>>(scores: &[Vec<S>], labels: &[usize]) -> Self {
        if labels.is_empty() {
            return Self::default();
        }
        let scaled =
            |factor: f64, scores: &[S]| log_softmax(scores.iter().map(|score| factor * (*score).into()).collect());
        let mut sharpness = 1.0;
        for _ in 0..STEPS {
            let (mut gradient, mut curvature) = (0.0, RIDGE);
            for (scores, label) in scores.iter().zip(labels) {
                let (mut mean, mut square) = (0.0, 0.0);
                for (logged, score) in scaled(sharpness, scores).into_iter().zip(scores) {
                    let (p, score) = (math::exp(logged), (*score).into());
                    (mean, square) = (mean + p * score, square + p * score * score);
                }
                gradient += mean - scores[*label].into();
                curvature += square - mean * mean;
            }
            // At most halved or doubled, so that no step goes too far.
            let next =
                (sharpness - gradient / curvature).clamp(sharpness / 2.0, 2.0 * sharpness).clamp(BOUNDS.0, BOUNDS.1);
            let is_still = (next - sharpness).abs() < 1e-9 * sharpness;
            sharpness = next;
            if is_still {
                break;
            }
        }
        let losses = scores.iter().zip(labels).map(|(scores, label)| -scaled(sharpness, scores)[*label]);
        Self { sharpness, log_loss: losses.sum::<f64>() / labels.len() as f64 }
    }
}
