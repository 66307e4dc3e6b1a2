//! A network and a linear classifier together: the softmax of their log-probabilities, each times a factor. The factors are
//! those at which rows that neither has learned are the most probable, a convex problem (stacking: Wolpert 1992,
//! <https://doi.org/10.1016/S0893-6080(05)80023-1>). What a linear classifier says of rows that it has learned is worth
//! nothing, so the network isn't taught beside it.

use serde::{Deserialize, Serialize};

use super::classifier::log_softmax;
use crate::support::math;

/// The factors of both.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Serialize)]
pub struct Mix {
    /// Of the network's log-probabilities.
    pub deep: f64,
    /// Of the linear classifier's.
    pub wide: f64,
}

impl Default for Mix {
    /// The mean of both, where there's nothing to choose by.
    fn default() -> Self {
        Self { deep: 0.5, wide: 0.5 }
    }
}

/// What both say of a row: the network's probabilities, and the linear classifier's log-probabilities.
pub type Said<'a> = (&'a [f32], &'a [f32]);

/// Rows below which nothing is chosen.
const FEWEST: usize = 20;
/// Steps of Newton's method.
const STEPS: usize = 50;
/// Halvings of a step that goes too far.
const HALVINGS: usize = 20;
/// What is added to the curvature, so that the step is finite where both say the same.
const RIDGE: f64 = 1e-6;
/// The least probability that is told from 0.
const LEAST: f32 = 1e-30;

impl Mix {
    /// The best factors for rows with these labels; neither is below 0.
    pub fn choose(rows: &[Said<'_>], labels: &[usize]) -> Self {
        let mut mix = Self::default();
        if rows.len() < FEWEST {
            return mix;
        }
        let mut loss = mix.loss(rows, labels);
        for _ in 0..STEPS {
            let ([g, h], [gg, gh, hh]) = mix.slopes(rows, labels);
            let (gg, hh) = (gg + RIDGE, hh + RIDGE);
            let determinant = gg * hh - gh * gh;
            let step = match (mix.deep <= 0.0 && g > 0.0, mix.wide <= 0.0 && h > 0.0) {
                (true, _) => [0.0, h / hh],
                (_, true) => [g / gg, 0.0],
                _ if determinant > 0.0 => [(hh * g - gh * h) / determinant, (gg * h - gh * g) / determinant],
                _ => [g / gg, h / hh],
            };
            let mut better = None;
            for halving in 0..HALVINGS {
                let share = 0.5_f64.powi(halving as i32);
                let next =
                    Self { deep: (mix.deep - share * step[0]).max(0.0), wide: (mix.wide - share * step[1]).max(0.0) };
                let its = next.loss(rows, labels);
                if its < loss {
                    better = Some((next, its));
                    break;
                }
            }
            let Some((next, its)) = better else { break };
            let gain = loss - its;
            (mix, loss) = (next, its);
            if gain < 1e-9 * loss {
                break;
            }
        }
        mix
    }

    /// The labels' probabilities.
    pub fn probabilities(self, row: Said<'_>) -> Vec<f32> {
        self.log_probabilities(row).into_iter().map(|log| math::exp(log) as f32).collect()
    }

    fn log_probabilities(self, (deep, wide): Said<'_>) -> Vec<f64> {
        let logit = |(deep, wide): (&f32, &f32)| self.deep * log(*deep) + self.wide * f64::from(*wide);
        log_softmax(deep.iter().zip(wide).map(logit).collect())
    }

    fn loss(self, rows: &[Said<'_>], labels: &[usize]) -> f64 {
        rows.iter().zip(labels).map(|(row, label)| -self.log_probabilities(*row)[*label]).sum()
    }

    /// The first and second derivatives of the loss by both factors.
    fn slopes(self, rows: &[Said<'_>], labels: &[usize]) -> ([f64; 2], [f64; 3]) {
        let (mut first, mut second) = ([0.0; 2], [0.0; 3]);
        for (row, label) in rows.iter().zip(labels) {
            let (mut means, mut squares) = ([0.0; 2], [0.0; 3]);
            let said = |class: usize| (log(row.0[class]), f64::from(row.1[class]));
            for (class, logged) in self.log_probabilities(*row).into_iter().enumerate() {
                let (p, (deep, wide)) = (math::exp(logged), said(class));
                means = [means[0] + p * deep, means[1] + p * wide];
                squares = [squares[0] + p * deep * deep, squares[1] + p * deep * wide, squares[2] + p * wide * wide];
            }
            let (deep, wide) = said(*label);
            first = [first[0] + means[0] - deep, first[1] + means[1] - wide];
            second[0] += squares[0] - means[0] * means[0];
            second[1] += squares[1] - means[0] * means[1];
            second[2] += squares[2] - means[1] * means[1];
        }
        (first, second)
    }
}

fn log(probability: f32) -> f64 {
    math::ln(f64::from(probability.max(LEAST)))
}
