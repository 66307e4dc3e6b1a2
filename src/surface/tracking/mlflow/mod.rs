//! MLflow: a run for each training and evaluation, below one for the whole, on the server in `MLFLOW_TRACKING_URI`.
//!
//! What happens is handed to a thread of its own, which keeps the server up to date (`worker.rs`), so that no stage waits
//! for it. A server that can't be reached, or refuses, is told once; then all goes on without.

mod api;
mod values;
mod worker;

use std::{
    sync::mpsc::{Sender, channel},
    thread::{self, JoinHandle},
};

use anyhow::Result;
use serde_json::Value;

use super::{Closing, Curves, Subject, Tell};
use crate::{
    engine::{
        executor::Event,
        plan::Node,
        store::{Artifact, unix_time},
    },
    stages::{DeviceUse, kind_named},
};
use api::{Access, Pair};
use worker::Worker;

/// Whether stages of a kind have runs of their own: those that compute something with tensors, so train or measure.
fn has_runs(kind: &str) -> bool {
    kind_named(kind).is_ok_and(|kind| kind.devices() != DeviceUse::None)
}

/// MLflow's words for how a run ended.
const FINISHED: &str = "FINISHED";
const FAILED: &str = "FAILED";
const KILLED: &str = "KILLED";

/// A server that is told of a run.
pub(super) struct MlFlow {
    messages: Sender<Message>,
    worker: JoinHandle<Worker>,
}

/// What the worker is told.
enum Message {
    /// A stage is being computed since this time.
    Begin(About, f64),
    /// Metrics of a stage that is.
    Metrics { stage: String, metrics: Vec<Value> },
    /// It's done, or not: the server's word for it.
    End { stage: String, status: &'static str, at: f64, artifact: Option<Box<Artifact>> },
    /// A stage was computed at another time.
    Stored(About, Box<Artifact>),
}

/// A stage that has a run of its own.
struct About {
    /// Its id among those of this run of the recipe.
    stage: String,
    /// Its name in the recipe.
    name: String,
    kind: String,
    key: String,
    params: Vec<Pair>,
}

impl MlFlow {
    /// A server, if the environment names one.
    ///
    /// # Errors
    /// If what it names is none.
    pub(super) fn start(subject: &Subject, curves: Curves, tell: Tell) -> Result<Option<Self>> {
        let Some(access) = Access::from_env()? else { return Ok(None) };
        let (messages, receiver) = channel();
        let worker = Worker::new(access, subject.clone(), curves, tell);
        let worker = thread::Builder::new().name("mlflow".into()).spawn(move || worker.work(&receiver))?;
        Ok(Some(Self { messages, worker }))
    }

    pub(super) fn event(&self, stage: &str, event: Event<'_>) {
        let end = |status: &'static str, artifact: Option<&Artifact>| {
            let artifact = artifact.cloned().map(Box::new);
            Some(Message::End { stage: stage.to_owned(), status, at: unix_time(), artifact })
        };
        let message = match event {
            Event::Started { node, key } => {
                About::new(stage, node, key).map(|about| Message::Begin(about, unix_time()))
            }
            Event::Figures(figures) => {
                let metrics = values::metrics(figures).collect();
                Some(Message::Metrics { stage: stage.to_owned(), metrics })
            }
            Event::Finished { artifact } => end(FINISHED, Some(artifact)),
            Event::Paused { .. } => end(KILLED, None),
            Event::Failed { .. } => end(FAILED, None),
            Event::Hit { node, artifact } | Event::InRemote { node, artifact } => {
                About::new(stage, node, &artifact.key).map(|about| Message::Stored(about, Box::new(artifact.clone())))
            }
            _ => None,
        };
        // Nobody listens where the worker has come to a bad end, which its panic has told.
        message.into_iter().for_each(|message| drop(self.messages.send(message)));
    }

    /// Waits until the server knows everything, and tells it how the whole has ended.
    pub(super) fn finish(self, closing: &Closing<'_>) {
        drop(self.messages);
        if let Ok(worker) = self.worker.join() {
            worker.finish(closing);
        }
    }
}

impl About {
    /// A stage's, if it's one that has a run of its own.
    fn new(stage: &str, node: &Node, key: &str) -> Option<Self> {
        has_runs(&node.kind).then(|| Self {
            stage: stage.to_owned(),
            name: node.name.clone(),
            kind: node.kind.clone(),
            key: key.to_owned(),
            params: values::flat("", &node.described),
        })
    }
}
