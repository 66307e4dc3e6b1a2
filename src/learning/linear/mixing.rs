//! A network and a linear classifier together: the softmax of their log-probabilities, each times a factor (stacking: Wolpert
//! 1992, <https://doi.org/10.1016/S0893-6080(05)80023-1>). What a linear classifier says of rows that it has learned is worth
//! nothing, so the network isn't taught beside it.
//!
//! The factors are chosen by rows that neither has learned. By log-loss alone both together were behind the linear classifier on
//! tnews, for scores of a squared hinge are poor probabilities, whatever they are worth for telling labels apart; by accuracy alone,
//! a few hundred rows say little. So of the shares that are about as accurate as the best, the one of the least log-loss is taken.

use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use super::{
    calibration::Calibration,
    classifier::{likeliest, log_softmax},
};
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
/// Shares that the network may have, from none to all, in steps of a twentieth.
const SHARES: usize = 20;
/// Shares on either side that are judged together with one, since the best of some hundred rows may be the best by chance.
const BESIDE: usize = 2;
/// Standard errors by which a share may be less accurate than the best.
const DOUBT: f64 = 0.5;
/// The least probability that is told from 0.
const LEAST: f32 = 1e-30;

impl Mix {
    /// The best factors for rows with these labels.
    pub fn choose(rows: &[Said<'_>], labels: &[usize]) -> Self {
        if rows.len() < FEWEST {
            return Self::default();
        }
        let right = |share: usize| -> Vec<bool> {
            let mix = Self::shared(share);
            rows.iter().zip(labels).map(|(row, label)| likeliest(&mix.probabilities(*row)) == *label).collect()
        };
        let right: Vec<Vec<bool>> = (0..=SHARES).into_par_iter().map(right).collect();
        let counts: Vec<usize> = right.iter().map(|rows| rows.iter().filter(|right| **right).count()).collect();
        let smooth = |share: usize| {
            let beside = &counts[share.saturating_sub(BESIDE)..=(share + BESIDE).min(SHARES)];
            beside.iter().sum::<usize>() as f64 / beside.len() as f64
        };
        let nearer = |a: usize, b: usize| b.abs_diff(SHARES / 2).cmp(&a.abs_diff(SHARES / 2));
        let best =
            (0..=SHARES).max_by(|a, b| smooth(*a).total_cmp(&smooth(*b)).then(nearer(*a, *b))).unwrap_or_default();
        // Rows that only one of two shares gets right differ by chance, as coins do.
        let is_near = |share: &usize| {
            let pairs = || right[best].iter().zip(&right[*share]);
            let lost = pairs().filter(|(best, own)| **best && !**own).count() as f64;
            let won = pairs().filter(|(best, own)| !**best && **own).count() as f64;
            lost - won <= DOUBT * (lost + won).sqrt()
        };
        let near: Vec<usize> = (0..=SHARES).filter(is_near).collect();
        let sharpened = |share: usize| Self::shared(share).sharpened(rows, labels);
        let mixes: Vec<(Self, f64)> = near.into_par_iter().map(sharpened).collect();
        mixes.into_iter().min_by(|(_, a), (_, b)| a.total_cmp(b)).map_or_else(Self::default, |(mix, _)| mix)
    }

    /// The factors of a share of the network, together 1.
    fn shared(share: usize) -> Self {
        let deep = share as f64 / SHARES as f64;
        Self { deep, wide: 1.0 - deep }
    }

    /// Both times the number at which the rows are the most probable, and the loss with it.
    fn sharpened(self, rows: &[Said<'_>], labels: &[usize]) -> (Self, f64) {
        let logits: Vec<Vec<f64>> = rows.iter().map(|row| self.logits(*row)).collect();
        let Calibration { sharpness, log_loss } = Calibration::of(&logits, labels);
        (Self { deep: sharpness * self.deep, wide: sharpness * self.wide }, log_loss)
    }

    /// The labels' probabilities.
    pub fn probabilities(self, row: Said<'_>) -> Vec<f32> {
        log_softmax(self.logits(row)).into_iter().map(|log| math::exp(log) as f32).collect()
    }

    fn logits(self, (deep, wide): Said<'_>) -> Vec<f64> {
        let logit = |(deep, wide): (&f32, &f32)| self.deep * log(*deep) + self.wide * f64::from(*wide);
        deep.iter().zip(wide).map(logit).collect()
    }
}

fn log(probability: f32) -> f64 {
    math::ln(f64::from(probability.max(LEAST)))
}
