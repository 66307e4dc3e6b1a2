//! Progress reports of the training loop.

use std::{collections::BTreeMap, time::Duration};

use super::{curve::CurveEntry, evaluation::Metrics};

/// Receives progress reports: draws bars, writes logs, or does nothing.
pub trait Observer {
    /// Every so many steps, and after the last one.
    fn progressed(&mut self, progress: &Progress);

    /// After the first step that is made, once the device has done it, with the seconds that it took.
    fn began(&mut self, _seconds: f64) {}

    /// New entries of the curve, as soon as their losses have been read from the device; each with the time at which
    /// it happened, in seconds since 1970.
    fn entered(&mut self, _entries: &[(CurveEntry, f64)]) {}

    /// A message for the user.
    fn noted(&mut self, _text: &str) {}

    /// After a measurement on the dev rows; `best` if these weights are the ones kept so far.
    fn evaluated(&mut self, _step: usize, _metrics: &Metrics, _best: bool) {}

    /// Called after every step but the last, and before the first one of a resumed training: whether to save the state and
    /// pause, to be resumed later.
    fn pauses(&mut self, _step: usize) -> bool {
        false
    }
}

/// Where training stands.
#[derive(Clone, Debug, PartialEq)]
pub struct Progress {
    /// Steps done.
    pub step: usize,
    /// Steps in all.
    pub steps: usize,
    /// The objective of the last step.
    pub objective: String,
    /// Mean of the steps since the last report.
    pub loss: f64,
    /// The same of each part of the loss by its objective's name, of the steps that have it; empty where there's but one.
    pub parts: BTreeMap<String, f64>,
    /// Of the last step.
    pub lr: f64,
    /// Of the last step.
    pub grad_norm: f64,
    /// Input tokens since the last report, padding not counted, over their time.
    pub tokens_per_second: f64,
    /// How long the rest will take at the pace so far.
    pub remaining: Duration,
}

/// Ignores all reports.
pub struct Silent;

impl Observer for Silent {
    fn progressed(&mut self, _progress: &Progress) {}
}
