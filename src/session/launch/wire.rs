//! The protocol between a stage's process and whoever has launched it: a line of JSON for each message.

use std::{io::Write, time::Duration};

use anyhow::{Context, Error, Result};
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::{
    engine::{
        executor::{Busy, Event, InputLost, Paused, Reporter, StepMetrics},
        plan::Node,
        store::{Lost, Metrics},
    },
    support::Hinted,
};

/// A message.
#[derive(Deserialize, Serialize)]
#[serde(rename_all = "snake_case")]
pub(in crate::session) enum Message {
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
pub(in crate::session) struct Point {
    step: usize,
    at: f64,
    values: Vec<(String, Option<f64>)>,
}

/// How the computation ended.
#[derive(Deserialize, Serialize)]
#[serde(rename_all = "snake_case")]
pub(in crate::session) enum End {
    /// The artifact is in the store.
    Done { computed: bool },
    /// It was stopped, and can be resumed.
    Paused { place: String, metrics: Metrics, measured: Option<Value> },
    /// A job of a cluster was asked to stop, and goes on when it's run again.
    Again { place: String },
    /// Another process has taken it over.
    Lost,
    /// Another process is computing it.
    Busy,
    /// What this field names was taken away.
    InputLost { field: String },
    /// It failed: the error, then what caused it; and what to do about it, if that is known.
    Failed { causes: Vec<String>, hint: Option<String> },
}

impl End {
    /// Of an error.
    pub(in crate::session) fn of(error: &Error) -> Self {
        if let Some(Paused { place, metrics, measured }) = error.downcast_ref() {
            return Self::Paused { place: place.clone(), metrics: metrics.clone(), measured: measured.clone() };
        }
        if error.is::<Lost>() {
            return Self::Lost;
        }
        if error.is::<Busy>() {
            return Self::Busy;
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
    pub(in crate::session) fn into_result(self) -> Result<bool> {
        match self {
            Self::Done { computed } => Ok(computed),
            Self::Paused { place, metrics, measured } => Err(Paused { place, metrics, measured }.into()),
            Self::Again { place } => Err(Paused::at(place).into()),
            Self::Lost => Err(Lost.into()),
            Self::Busy => Err(Busy.into()),
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
    pub(in crate::session) fn of(event: Event<'_>) -> Option<Self> {
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
    pub(in crate::session) fn notify(self, node: &Node, id: &str, reporter: &dyn Reporter) -> Option<End> {
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

/// Writes what happens, a line for each event.
pub(in crate::session) struct Report<W> {
    output: Mutex<W>,
}

impl<W: Write> Report<W> {
    /// To this.
    pub(in crate::session) fn new(output: W) -> Self {
        Self { output: Mutex::new(output) }
    }

    /// Writes a message.
    ///
    /// # Errors
    /// If nobody reads it any more.
    pub(in crate::session) fn send(&self, message: &Message) -> Result<()> {
        let line = serde_json::to_string(message)?;
        let mut output = self.output.lock();
        writeln!(output, "{line}").and_then(|()| output.flush()).context("can't report to the launching process")
    }
}

impl<W: Write + Send> Reporter for Report<W> {
    fn event(&self, _stage: &str, event: Event<'_>) {
        // Where the parent is gone, the end of stdin stops the stage.
        Message::of(event).into_iter().for_each(|message| drop(self.send(&message)));
    }
}
