//! Whether a model is right as often as it says it is.

use serde::{Deserialize, Serialize};

/// Bins of equal width that confidences are sorted into, as Guo et al. have it.
pub const BINS: usize = 15;

/// Expected calibration error and the bins behind it.
///
/// Rows go by their confidence, the probability of the predicted class, into bins `(b / 15, (b + 1) / 15]`. The error is
/// `Σ_b n_b / n · |accuracy_b − confidence_b|` with the means within each bin: Guo et al. 2017, "On Calibration of
/// Modern Neural Networks", <https://arxiv.org/abs/1706.04599>, equation 3.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub struct Calibration {
    /// Expected calibration error, 0 to 1.
    pub error: f64,
    /// All bins, empty ones too.
    pub bins: Vec<CalibrationBin>,
}

/// The rows whose confidence falls into one bin.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub struct CalibrationBin {
    /// Confidences in the bin are above this,
    pub above: f64,
    /// and at most this.
    pub up_to: f64,
    /// Number of rows.
    pub rows: u64,
    /// Share of them that are predicted right; none in an empty bin.
    pub accuracy: Option<f64>,
    /// Their mean confidence; none in an empty bin.
    pub confidence: Option<f64>,
}

#[derive(Clone, Default)]
struct BinSums {
    rows: u64,
    right: u64,
    confidence: f64,
}

impl Calibration {
    /// Sorts pairs of confidence and correctness into bins; none where there are no pairs.
    pub fn measure(rows: impl IntoIterator<Item = (f64, bool)>) -> Option<Self> {
        let mut sums = vec![BinSums::default(); BINS];
        for (confidence, right) in rows {
            let confidence = confidence.clamp(0.0, 1.0);
            let bin = ((confidence * BINS as f64).ceil() as usize).clamp(1, BINS) - 1;
            sums[bin].rows += 1;
            sums[bin].right += u64::from(right);
            sums[bin].confidence += confidence;
        }
        let total: u64 = sums.iter().map(|bin| bin.rows).sum();
        if total == 0 {
            return None;
        }
        // n_b / n · |right_b / n_b − confidence_b / n_b|, where n_b cancels.
        let gaps: f64 = sums.iter().map(|bin| (bin.right as f64 - bin.confidence).abs()).sum();
        let bins = sums
            .iter()
            .enumerate()
            .map(|(index, bin)| {
                let mean = |sum: f64| (bin.rows > 0).then(|| sum / bin.rows as f64);
                CalibrationBin {
                    above: index as f64 / BINS as f64,
                    up_to: (index + 1) as f64 / BINS as f64,
                    rows: bin.rows,
                    accuracy: mean(bin.right as f64),
                    confidence: mean(bin.confidence),
                }
            })
            .collect();
        Some(Self { error: gaps / total as f64, bins })
    }
}
