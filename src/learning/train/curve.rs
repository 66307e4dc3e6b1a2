//! The training curve: loss, learning rate and gradient norm of each step, and evaluations. It's the same for the same
//! training, independent of time and logging.

use std::{
    collections::{BTreeMap, BTreeSet},
    io::{BufWriter, Write},
    path::Path,
};

use anyhow::Result;
use fs_err::File;
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::evaluation::Metrics;
use crate::engine::store::Artifact;

/// All entries, in the order of the steps.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
pub struct Curve {
    /// Steps, and evaluations between them.
    pub entries: Vec<CurveEntry>,
}

/// A step, or an evaluation.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum CurveEntry {
    /// An optimizer step.
    Train(Point),
    /// The dev metrics after so many steps.
    Evaluate {
        /// Steps before it.
        step: usize,
        /// By name.
        metrics: Metrics,
    },
}

/// An optimizer step.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub struct Point {
    /// Counted from 1.
    pub step: usize,
    /// The step's objective.
    pub objective: String,
    /// Before the step.
    pub loss: f32,
    /// Learning rate.
    pub lr: f64,
    /// Norm of the gradient, before clipping.
    pub grad_norm: f32,
    /// What the loss is the sum of, by the names of the objectives and without their weights; empty where it's one's alone.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub parts: BTreeMap<String, f32>,
}

impl Point {
    /// The losses of the step's objectives by their names.
    pub fn losses(&self) -> impl Iterator<Item = (&str, f32)> {
        let alone = self.parts.is_empty().then_some((self.objective.as_str(), self.loss));
        alone.into_iter().chain(self.parts.iter().map(|(name, loss)| (name.as_str(), *loss)))
    }
}

/// The mean loss of each objective over those of these steps that have it.
pub(super) fn means<'a>(points: impl Iterator<Item = &'a Point>) -> BTreeMap<String, f64> {
    let mut sums: BTreeMap<String, (f64, f64)> = BTreeMap::new();
    for (name, loss) in points.flat_map(Point::losses) {
        let (sum, count) = sums.entry(name.to_owned()).or_default();
        *sum += f64::from(loss);
        *count += 1.0;
    }
    sums.into_iter().map(|(name, (sum, count))| (name, sum / count)).collect()
}

/// An entry as it's written.
#[derive(Deserialize)]
#[serde(untagged)]
enum Line {
    Train(Point),
    /// What isn't finite is `null` there.
    Evaluate {
        step: usize,
        dev: BTreeMap<String, Option<f64>>,
    },
}

impl Curve {
    /// Its file in the artifacts of training stages.
    pub const FILE: &str = "curve.jsonl";

    /// The optimizer steps.
    pub fn points(&self) -> impl DoubleEndedIterator<Item = &Point> {
        self.entries.iter().filter_map(|entry| match entry {
            CurveEntry::Train(point) => Some(point),
            CurveEntry::Evaluate { .. } => None,
        })
    }

    /// The mean loss of the last 5 % of the steps, and of one at least; `None` without steps.
    pub fn final_loss(&self) -> Option<f64> {
        let window = self.points().count().div_ceil(20);
        let losses = self.points().rev().take(window).map(|point| f64::from(point.loss));
        (window > 0).then(|| losses.sum::<f64>() / window as f64)
    }

    /// Whether losses of several objectives are in it.
    pub fn is_mixed(&self) -> bool {
        self.points().flat_map(Point::losses).map(|(name, _)| name).collect::<BTreeSet<_>>().len() > 1
    }

    /// The mean loss of each objective over the last 5 % of the steps that have it, by its name.
    pub fn final_losses(&self) -> BTreeMap<String, f64> {
        let mut all: BTreeMap<&str, Vec<f64>> = BTreeMap::new();
        for (name, loss) in self.points().flat_map(Point::losses) {
            all.entry(name).or_default().push(f64::from(loss));
        }
        let last = |losses: &[f64]| {
            let window = losses.len().div_ceil(20);
            losses.iter().rev().take(window).sum::<f64>() / window as f64
        };
        all.into_iter().map(|(name, losses)| (name.to_owned(), last(&losses))).collect()
    }

    /// Of a finished training; empty for any other artifact, and where its files aren't here.
    pub fn of(artifact: &Artifact) -> Self {
        Self::parse(&std::fs::read_to_string(artifact.file(Self::FILE)).unwrap_or_default())
    }

    /// Dev metrics, each with the steps before it.
    pub fn evaluations(&self) -> impl Iterator<Item = (usize, &Metrics)> {
        self.entries.iter().filter_map(|entry| match entry {
            CurveEntry::Train(_) => None,
            CurveEntry::Evaluate { step, metrics } => Some((*step, metrics)),
        })
    }

    /// Reads what [`Self::write`] has written; what isn't a number isn't there, and lines of another form are left out.
    pub fn parse(text: &str) -> Self {
        let entry = |line: &str| match serde_json::from_str(line).ok()? {
            Line::Train(point) => Some(CurveEntry::Train(point)),
            Line::Evaluate { step, dev } => {
                let metrics = dev.into_iter().filter_map(|(name, value)| Some((name, value?))).collect();
                Some(CurveEntry::Evaluate { step, metrics })
            }
        };
        Self { entries: text.lines().filter_map(entry).collect() }
    }

    /// Writes a JSON object a line: `step`, `objective`, `loss`, `lr` and `grad_norm` of a step, and `parts` where its loss
    /// is that of several objectives; `step` and `dev` of an evaluation.
    ///
    /// # Errors
    /// The file system's.
    pub fn write(&self, path: &Path) -> Result<()> {
        let mut file = BufWriter::new(File::create(path)?);
        for entry in &self.entries {
            match entry {
                CurveEntry::Train(point) => serde_json::to_writer(&mut file, point)?,
                CurveEntry::Evaluate { step, metrics } => {
                    serde_json::to_writer(&mut file, &json!({ "step": step, "dev": metrics }))?;
                }
            }
            file.write_all(b"\n")?;
        }
        Ok(file.flush()?)
    }
}
