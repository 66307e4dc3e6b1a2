//! Mean and standard deviation of a metric over the seeds of a setting.

/// Mean and standard deviation of values.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Summary {
    /// The mean.
    pub mean: f64,
    /// The sample's standard deviation, with `n − 1`; none for a single value.
    pub deviation: Option<f64>,
    /// How many values.
    pub count: usize,
}

impl Summary {
    /// Measures values; none where there are none.
    pub fn of(values: &[f64]) -> Option<Self> {
        let count = values.len();
        if count == 0 {
            return None;
        }
        let mean = values.iter().sum::<f64>() / count as f64;
        let squares: f64 = values.iter().map(|value| (value - mean).powi(2)).sum();
        let deviation = (count > 1).then(|| (squares / (count - 1) as f64).sqrt());
        Some(Self { mean, deviation, count })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn deviation_is_the_samples() {
        let summary = Summary::of(&[2.0, 4.0, 4.0, 4.0, 5.0, 5.0, 7.0, 9.0]).expect("values");
        assert_eq!((summary.mean, summary.count), (5.0, 8));
        assert!((summary.deviation.expect("a deviation") - (32.0_f64 / 7.0).sqrt()).abs() < 1e-12);
        assert_eq!(Summary::of(&[1.5]), Some(Summary { mean: 1.5, deviation: None, count: 1 }));
        assert_eq!(Summary::of(&[]), None);
    }
}
