//! Evaluation on dev rows during training: keeping the best weights, early stopping.

use std::collections::BTreeMap;

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};

use crate::{
    network::model::Network,
    spec::{self, DevMetric},
};

/// Metrics by name, such as `accuracy`, `macro_f1` and `loss`.
pub type Metrics = BTreeMap<String, f64>;

/// How and when to evaluate.
pub struct Evaluation<'a> {
    /// Steps between two evaluations; the last step is always followed by one.
    pub every: usize,
    /// Computes the metrics of the network on the dev rows.
    pub measure: &'a mut dyn FnMut(&Network) -> Result<Metrics>,
    /// The metric by which the best weights are kept, instead of the last.
    pub keep_best: Option<DevMetric>,
    /// When to stop before the last step.
    pub early_stopping: Option<spec::EarlyStopping>,
}

/// The best value of a metric so far.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
pub(super) struct MetricTracker {
    pub(super) best: Option<f64>,
    /// Evaluations since then.
    pub(super) since: usize,
}

impl MetricTracker {
    /// Adds an evaluation; returns whether it's the best so far (of equal ones the first is).
    pub(super) fn note(&mut self, metric: &DevMetric, metrics: &Metrics) -> Result<bool> {
        let value = *metrics.get(metric.name()).with_context(|| {
            let known: Vec<&str> = metrics.keys().map(String::as_str).collect();
            format!("no metric `{metric}` among those measured: {}", known.join(", "))
        })?;
        let improved = self.best.is_none_or(|best| metric.is_better(value, best) || best.is_nan());
        if improved {
            *self = Self { best: Some(value), since: 0 };
        } else {
            self.since += 1;
        }
        Ok(improved)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn losses_get_better_downwards_and_all_else_upwards() {
        let metrics = |value: f64| Metrics::from([("loss".into(), value), ("accuracy".into(), value)]);
        let (mut loss, mut accuracy) = (MetricTracker::default(), MetricTracker::default());
        let noted = [0.5, 0.4, 0.6, 0.6].map(|value| {
            let metrics = metrics(value);
            (loss.note(&DevMetric::LOSS, &metrics).unwrap(), accuracy.note(&DevMetric::ACCURACY, &metrics).unwrap())
        });
        assert_eq!(noted, [(true, true), (true, false), (false, true), (false, false)]);
        assert_eq!(loss, MetricTracker { best: Some(0.4), since: 2 });
        assert_eq!(accuracy, MetricTracker { best: Some(0.6), since: 1 });
    }

    #[test]
    fn unknown_metrics_name_the_known_ones() {
        let metrics = Metrics::from([("accuracy".into(), 1.0), ("loss".into(), 1.0)]);
        let error = MetricTracker::default().note(&"f1".into(), &metrics).unwrap_err().to_string();
        assert_eq!(error, "no metric `f1` among those measured: accuracy, loss");
    }
}
