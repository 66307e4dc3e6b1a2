//! The protocol between a stage's process and its parent: a line of JSON for each message.

use std::time::Duration;

use anyhow::Error;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::{
    engine::{
        executor::{Event, InputLost, Paused, Reporter, StepMetrics},
        plan::Node,
        store::{Lost, Metrics},
    },
    support::Hinted,
};

/// A message.
#[derive(Deserialize, Serialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Message {
    /// Another process is computing it.
    Waiting,
    /// Its computation begins.
    Started { key: String },
    /// It's this far.
    Progress { done: u64, total: u64, note: String, remaining: Option<f64> },
    /// Metrics of a training.
    Metrics(Vec<Point>),
    /// Something that a person should read.
    Note(String),
    /// The last message: how it ended.
    End(End),
}

/// [`StepMetrics`]; a value that JSON can't have is `None`.
#[derive(Deserialize, Serialize)]
pub(super) struct Point {
    step: usize,
    at: f64,
    values: Vec<(String, Option<f64>)>,
}

/// How the computation ended.
#[derive(Deserialize, Serialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum End {
    /// The artifact is in the store.
    Done { computed: bool },
    /// It was stopped, and can be resumed.
    Paused { place: String, metrics: Metrics, measured: Option<Value> },
    /// Another process has taken it over.
    Lost,
    /// What this field names was taken away.
    InputLost { field: String },
    /// It failed: the error, then what caused it; and what to do about it, if that is known.
    Failed { causes: Vec<String>, hint: Option<String> },
}

impl End {
    /// Of an error.
    pub(super) fn of(error: &Error) -> Self {
        if let Some(Paused { place, metrics, measured }) = error.downcast_ref() {
            return Self::Paused { place: place.clone(), metrics: metrics.clone(), measured: measured.clone() };
        }
        if error.is::<Lost>() {
            return Self::Lost;
        }
        if let Some(InputLost { field }) = error.downcast_ref() {
            return Self::InputLost { field: field.clone() };
        }
        let causes = error.chain().map(ToString::to_string).collect();
        Self::Failed { causes, hint: Hinted::of(error).hint }
    }

    /// Whether the artifact was computed by that process.
    ///
    /// # Errors
    /// What kept the artifact from being there.
    pub(super) fn into_result(self) -> anyhow::Result<bool> {
        match self {
            Self::Done { computed } => Ok(computed),
            Self::Paused { place, metrics, measured } => Err(Paused { place, metrics, measured }.into()),
            Self::Lost => Err(Lost.into()),
            Self::InputLost { field } => Err(InputLost { field }.into()),
            Self::Failed { causes, hint } => {
                let mut causes = causes.into_iter().rev();
                let root = Hinted::new(causes.next().unwrap_or_else(|| "it failed".to_owned()), hint);
                Err(causes.fold(root.into(), |error: Error, context| error.context(context)))
            }
        }
    }
}

impl Message {
    /// Events that the parent derives itself are `None`: it reports how a stage ended.
    pub(super) fn of(event: Event<'_>) -> Option<Self> {
        Some(match event {
            Event::Waiting => Self::Waiting,
            Event::Started { key, .. } => Self::Started { key: key.to_owned() },
            Event::Progress { done, total, note, remaining } => {
                let remaining = remaining.map(|time| time.as_secs_f64());
                Self::Progress { done, total, note: note.to_owned(), remaining }
            }
            Event::Metrics(metrics) => Self::Metrics(metrics.iter().map(Point::of).collect()),
            Event::Note(note) => Self::Note(note.to_owned()),
            _ => return None,
        })
    }

    /// Forwards to a reporter, as if the stage were computed here; gives the end, if that's what it is.
    pub(super) fn notify(self, node: &Node, id: &str, reporter: &dyn Reporter) -> Option<End> {
        match self {
            Self::Waiting => reporter.event(id, Event::Waiting),
            Self::Started { key } => reporter.event(id, Event::Started { node, key: &key }),
            Self::Progress { done, total, note, remaining } => {
                let remaining = remaining.and_then(|seconds| Duration::try_from_secs_f64(seconds).ok());
                reporter.event(id, Event::Progress { done, total, note: &note, remaining });
            }
            Self::Metrics(points) => {
                let metrics: Vec<StepMetrics> = points.into_iter().map(Point::into_metrics).collect();
                reporter.event(id, Event::Metrics(&metrics));
            }
            Self::Note(note) => reporter.event(id, Event::Note(&note)),
            Self::End(end) => return Some(end),
        }
        None
    }
}

impl Point {
    fn of(metrics: &StepMetrics) -> Self {
        let finite = |value: f64| value.is_finite().then_some(value);
        let values = metrics.values.iter().map(|(name, value)| (name.clone(), finite(*value))).collect();
        Self { step: metrics.step, at: metrics.at, values }
    }

    fn into_metrics(self) -> StepMetrics {
        let values = self.values.into_iter().map(|(name, value)| (name, value.unwrap_or(f64::NAN))).collect();
        StepMetrics { step: self.step, at: self.at, values }
    }
}
