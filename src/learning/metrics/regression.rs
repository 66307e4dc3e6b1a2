//! Numbers beside those that are right.

use serde::{Deserialize, Serialize};

/// How good a model that gives rows a number is.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Serialize)]
pub struct Regression {
    /// Pearson's correlation; none where one side is constant.
    pub pearson: Option<f64>,
    /// Spearman's: Pearson's of the ranks, equal numbers sharing the mean of theirs.
    pub spearman: Option<f64>,
    /// The mean of the absolute differences.
    pub mean_absolute_error: f64,
    /// The mean of the squared differences.
    pub mean_squared_error: f64,
}

impl Regression {
    /// Measures pairs of what was said and what is right; none where there are no rows.
    pub fn measure(pairs: &[(f64, f64)]) -> Option<Self> {
        let mean = |of: &dyn Fn(&(f64, f64)) -> f64| pairs.iter().map(of).sum::<f64>() / pairs.len() as f64;
        let (said, right): (Vec<f64>, Vec<f64>) = pairs.iter().copied().unzip();
        (!pairs.is_empty()).then(|| Self {
            pearson: correlation(&said, &right),
            spearman: correlation(&ranks(&said), &ranks(&right)),
            mean_absolute_error: mean(&|(said, right)| (said - right).abs()),
            mean_squared_error: mean(&|(said, right)| (said - right).powi(2)),
        })
    }
}

/// The covariance by the deviations of both.
fn correlation(a: &[f64], b: &[f64]) -> Option<f64> {
    let mean = |values: &[f64]| values.iter().sum::<f64>() / values.len() as f64;
    let (mean_a, mean_b) = (mean(a), mean(b));
    let (mut both, mut of_a, mut of_b) = (0.0, 0.0, 0.0);
    for (a, b) in a.iter().zip(b) {
        let (a, b) = (a - mean_a, b - mean_b);
        both += a * b;
        of_a += a * a;
        of_b += b * b;
    }
    let deviations = (of_a * of_b).sqrt();
    (deviations > 0.0).then(|| (both / deviations).clamp(-1.0, 1.0))
}

/// The rank of each number, from 1; equal ones have the mean of theirs.
fn ranks(values: &[f64]) -> Vec<f64> {
    let mut order: Vec<usize> = (0..values.len()).collect();
    order.sort_by(|&a, &b| values[a].total_cmp(&values[b]));
    let mut ranks = vec![0.0; values.len()];
    let mut start = 0;
    for same in order.chunk_by(|&a, &b| values[a].total_cmp(&values[b]).is_eq()) {
        let rank = start as f64 + (same.len() as f64 + 1.0) / 2.0;
        same.iter().for_each(|&index| ranks[index] = rank);
        start += same.len();
    }
    ranks
}

#[cfg(test)]
mod tests {
    use super::*;

    const PAIRS: [(f64, f64); 6] = [(0.5, 1.0), (2.25, 2.0), (2.25, 3.5), (3.0, 2.0), (4.5, 5.0), (1.0, 0.0)];

    /// `scipy.stats.pearsonr(a, b)`, `spearmanr(a, b)`, and scikit-learn's `mean_absolute_error` and `mean_squared_error`.
    #[test]
    fn figures_are_scipys() {
        let measured = Regression::measure(&PAIRS).unwrap();
        let near = |found: f64, expected: f64| assert!((found - expected).abs() < 1e-6, "{found} not {expected}");
        near(measured.pearson.unwrap(), 0.8623308);
        near(measured.spearman.unwrap(), 0.8088235);
        near(measured.mean_absolute_error, 0.75);
        near(measured.mean_squared_error, 0.6875);
        assert!(Regression::measure(&[]).is_none());
        assert_eq!(Regression::measure(&[(1.0, 2.0), (1.0, 3.0)]).unwrap().pearson, None);
    }
}
