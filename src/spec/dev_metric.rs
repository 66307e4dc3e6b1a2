//! Names of what is measured on dev rows while a model trains.

use std::{borrow::Cow, fmt};

use serde::{Deserialize, Serialize};

/// A metric on dev rows, by its name in recipes and records. Which ones a stage has is said by its kind, which also checks
/// that no others are asked for.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(transparent)]
pub struct DevMetric(Cow<'static, str>);

impl DevMetric {
    /// The share of right answers.
    pub const ACCURACY: Self = Self(Cow::Borrowed("accuracy"));
    /// The unweighted mean over the classes of their F1.
    pub const MACRO_F1: Self = Self(Cow::Borrowed("macro_f1"));
    /// The mean loss, in nats.
    pub const LOSS: Self = Self(Cow::Borrowed("loss"));
    /// e to the loss per token.
    pub const PERPLEXITY: Self = Self(Cow::Borrowed("perplexity"));

    /// F1 over the answers of all classes together.
    pub const MICRO_F1: Self = Self(Cow::Borrowed("micro_f1"));
    /// Pearson's correlation.
    pub const PEARSON: Self = Self(Cow::Borrowed("pearson"));
    /// Spearman's correlation of ranks.
    pub const SPEARMAN: Self = Self(Cow::Borrowed("spearman"));
    /// The mean of the absolute differences.
    pub const MEAN_ABSOLUTE_ERROR: Self = Self(Cow::Borrowed("mean_absolute_error"));

    /// The name in recipes and records.
    pub fn name(&self) -> &str {
        &self.0
    }

    /// Whether the lower value is the better one.
    pub fn less_is_better(&self) -> bool {
        [Self::LOSS, Self::PERPLEXITY, Self::MEAN_ABSOLUTE_ERROR].contains(self)
    }

    /// Whether a value is better than another one.
    pub fn is_better(&self, value: f64, than: f64) -> bool {
        if self.less_is_better() { value < than } else { value > than }
    }
}

impl From<&'static str> for DevMetric {
    fn from(name: &'static str) -> Self {
        Self(Cow::Borrowed(name))
    }
}

impl From<String> for DevMetric {
    fn from(name: String) -> Self {
        Self(Cow::Owned(name))
    }
}

impl fmt::Display for DevMetric {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn losses_get_better_downwards_and_all_else_upwards() {
        assert!(DevMetric::PERPLEXITY.is_better(2.0, 3.0) && DevMetric::LOSS.is_better(2.0, 3.0));
        assert!(DevMetric::MACRO_F1.is_better(0.3, 0.2) && !DevMetric::ACCURACY.is_better(0.2, 0.2));
    }

    #[test]
    fn metrics_are_written_as_their_names() {
        assert_eq!(serde_json::to_value(DevMetric::MACRO_F1).unwrap(), "macro_f1");
        assert_eq!(serde_json::from_value::<DevMetric>("loss".into()).unwrap(), DevMetric::LOSS);
    }
}
