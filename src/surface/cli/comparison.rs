//! Two stages side by side: settings, metrics, curves and confidence intervals of the differences.

use std::io::Write;

use anyhow::Result;
use serde_json::{Value, json};

use crate::{
    engine::{
        plan::{Difference, differences_of_runs},
        remote::{Remote, small_file},
        store::Artifact,
    },
    learning::{
        metrics::{
            Interval, Paired,
            predictions::{self, Predicted},
        },
        train::{Curve, Point},
    },
};

/// The file of an evaluation with what was predicted.
const PREDICTIONS: &str = "predictions.parquet";

/// Points of a curve that are shown.
const POINTS: usize = 10;

/// A stage of two sides.
pub(super) struct Pair {
    pub(super) stage: String,
    pub(super) differences: Vec<Difference>,
    /// Metrics of both by name.
    pub(super) metrics: Vec<(String, f64, f64)>,
    /// Confidence intervals on predictions, where both have some.
    pub(super) intervals: Option<Intervals>,
    /// Step and loss of both, thinned.
    pub(super) curves: [Vec<(usize, f32)>; 2],
}

/// Rows that both measured, rows that only one did, and by metric the differences on the former.
type Intervals = (usize, usize, Vec<(&'static str, Interval)>);

impl Pair {
    /// Compares two artifacts, whose files are here or in the remote; confidence intervals take so many `resamples`, drawn from `seed`.
    ///
    /// # Errors
    /// If the predictions of an evaluation can't be read.
    pub(super) fn new(
        stage: &str,
        first: &Artifact,
        second: &Artifact,
        remote: Option<&Remote>,
        sampling: (u64, u64),
    ) -> Result<Self> {
        let curve = |artifact| {
            let text = small_file(artifact, Curve::FILE, remote).unwrap_or_default();
            thinned(&Curve::parse(&String::from_utf8_lossy(&text)).points().collect::<Vec<_>>())
        };
        let curves = [first, second].map(curve);
        Ok(Self { curves, ..Self::without_curves(stage, first, second, remote, sampling)? })
    }

    /// The same without curves, which then needn't be fetched.
    ///
    /// # Errors
    /// As [`Self::new`].
    pub(super) fn without_curves(
        stage: &str,
        first: &Artifact,
        second: &Artifact,
        remote: Option<&Remote>,
        (resamples, seed): (u64, u64),
    ) -> Result<Self> {
        let metrics = first
            .metrics
            .iter()
            .filter_map(|(name, value)| Some((name.clone(), value.as_f64()?, second.metrics.get(name)?.as_f64()?)));
        let intervals = if let (Some(one), Some(other)) = (predicted(first, remote)?, predicted(second, remote)?) {
            let paired = Paired::new(&one, &other);
            let resamples = usize::try_from(resamples)?;
            Some((paired.rows(), paired.unpaired, paired.intervals(resamples, seed)))
        } else {
            None
        };
        Ok(Self {
            stage: stage.to_owned(),
            differences: differences_of_runs(first, second),
            metrics: metrics.collect(),
            intervals,
            curves: Default::default(),
        })
    }

    pub(super) fn json(&self) -> Value {
        let differences = self
            .differences
            .iter()
            .map(|difference| json!({ "field": difference.field, "a": difference.was, "b": difference.is }));
        let metrics: serde_json::Map<_, _> = self
            .metrics
            .iter()
            .map(|(name, a, b)| (name.clone(), json!({ "a": a, "b": b, "difference": b - a })))
            .collect();
        let intervals = self.intervals.as_ref().map(|(rows, unpaired, intervals)| {
            let intervals: serde_json::Map<_, _> =
                intervals.iter().map(|(name, interval)| ((*name).to_owned(), json!(interval))).collect();
            json!({ "rows": rows, "rows_of_one_only": unpaired, "intervals": intervals })
        });
        let [a, b] = &self.curves;
        json!({
            "stage": self.stage,
            "differences": differences.collect::<Vec<_>>(),
            "metrics": metrics,
            "paired": intervals,
            "curves": { "a": a, "b": b },
        })
    }
}

/// The predictions of an evaluation; `None` of what is none, or can't be had.
pub(super) fn predicted(artifact: &Artifact, remote: Option<&Remote>) -> Result<Option<Vec<Predicted>>> {
    let Some(bytes) = small_file(artifact, PREDICTIONS, remote) else { return Ok(None) };
    let mut file = tempfile::NamedTempFile::new()?;
    file.write_all(&bytes)?;
    predictions::read(file.path()).map(Some)
}

/// As many means over equal parts of the steps as are shown, each at its last step.
fn thinned(points: &[&Point]) -> Vec<(usize, f32)> {
    let part = points.len().div_ceil(POINTS).max(1);
    let mean = |part: &[&Point]| {
        let last = part.last()?;
        Some((last.step, part.iter().map(|point| point.loss).sum::<f32>() / part.len() as f32))
    };
    points.chunks(part).filter_map(mean).collect()
}
