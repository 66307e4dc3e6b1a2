//! What labels weigh in a classifier's loss.

use indexmap::IndexMap;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// What the rows of each label weigh in the loss.
#[derive(Clone, Debug, Deserialize, JsonSchema, PartialEq, Serialize)]
#[serde(untagged)]
pub enum ClassWeights {
    /// By how many rows they have
    Counted(CountedWeights),
    /// A number for each label; those that aren't named weigh 1
    Each(IndexMap<String, f64>),
}

/// Weights that follow from how many rows each label has.
#[derive(Clone, Copy, Debug, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum CountedWeights {
    /// The rows of each label weigh the same together
    Balanced,
}

impl ClassWeights {
    /// The weight of each of the `labels`, of which there are so many rows. Balanced ones are those of scikit-learn's
    /// `compute_class_weight`: all rows, divided by the labels and by the label's own rows.
    pub fn of(&self, labels: &[String], rows: &[usize]) -> Vec<f32> {
        match self {
            Self::Counted(CountedWeights::Balanced) => {
                let (all, present) = (rows.iter().sum::<usize>(), rows.iter().filter(|&&count| count > 0).count());
                rows.iter().map(|&count| all as f32 / (present * count.max(1)) as f32).collect()
            }
            Self::Each(weights) => {
                labels.iter().map(|label| weights.get(label).map_or(1.0, |&weight| weight as f32)).collect()
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `compute_class_weight("balanced", classes=["a", "b", "c"], y=["b"] * 6 + ["a"] * 3 + ["c"])` of scikit-learn 1.
    #[test]
    fn balanced_weights_are_scikit_learns() {
        let labels = ["a", "b", "c"].map(str::to_owned);
        let balanced: ClassWeights = serde_json::from_value("balanced".into()).expect("a word");
        let found = balanced.of(&labels, &[3, 6, 1]);
        for (found, expected) in found.iter().zip([1.111_111, 0.555_555_6, 3.333_333_3]) {
            assert!((found - expected).abs() < 1e-6, "{found} instead of {expected}");
        }
        let each: ClassWeights = serde_json::from_value(serde_json::json!({ "b": 2.5 })).expect("a mapping");
        assert_eq!(each.of(&labels, &[3, 6, 1]), [1.0, 2.5, 1.0]);
    }
}
