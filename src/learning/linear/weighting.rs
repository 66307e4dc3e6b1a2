//! What an n-gram counts for: by how much more frequent it is in a class than elsewhere.

use super::Matrix;
use crate::support::math;

/// Added to the counts of rows, in a class and elsewhere.
const SMOOTHING: f64 = 1.0;

/// The log-count ratios of naive Bayes, `[column][class]` (Wang and Manning 2012, <https://aclanthology.org/P12-2018>): with
/// `p` rows of the class that have a feature and `q` of the others, each one more and divided by the sum over all features,
/// `ln p / q`.
pub fn ratios(matrix: &Matrix, labels: &[usize], classes: usize, width: usize) -> Vec<f32> {
    let mut counts = vec![0_u32; width * classes];
    for (row, label) in labels.iter().enumerate() {
        for (column, _) in matrix.row(row) {
            counts[column * classes + label] += 1;
        }
    }
    let mut sums = vec![0_u64; classes];
    for column in counts.chunks_exact(classes) {
        sums.iter_mut().zip(column).for_each(|(sum, count)| *sum += u64::from(*count));
    }
    let all: u64 = sums.iter().sum();
    let smoothed = |sum: u64| sum as f64 + SMOOTHING * width as f64;
    let norms: Vec<f64> = sums.iter().map(|sum| math::ln(smoothed(all - sum) / smoothed(*sum))).collect();
    let mut ratios = Vec::with_capacity(counts.len());
    for column in counts.chunks_exact(classes) {
        let all: u32 = column.iter().sum();
        for (count, norm) in column.iter().zip(&norms) {
            let (p, q) = (f64::from(*count) + SMOOTHING, f64::from(all - count) + SMOOTHING);
            ratios.push((math::ln(p / q) + norm) as f32);
        }
    }
    ratios
}
