//! MLflow: a run for each training and evaluation, below one for the whole, on the server in `MLFLOW_TRACKING_URI`.
//!
//! What happens is handed to a thread of its own, which keeps the server up to date (`worker.rs`), so that no stage waits
//! for it. A server that can't be reached, or refuses, is reported once; then the run continues without it.

mod api;
mod message;
mod values;
mod worker;

use std::{
    sync::mpsc::{Sender, channel},
    thread::{self, JoinHandle},
};

use anyhow::Result;

use super::subject::{Curves, Notify, RunEnd, Subject};
use crate::engine::{
    executor::Event,
    store::{Artifact, unix_time},
};
use api::Access;
use message::{FAILED, FINISHED, KILLED, Message, StageInfo};
use worker::Worker;

/// A server that a run is logged to.
pub(super) struct MlFlow {
    messages: Sender<Message>,
    worker: JoinHandle<Worker>,
}

impl MlFlow {
    /// A server, if the environment names one.
    ///
    /// # Errors
    /// If what it names is none.
    pub(super) fn start(subject: &Subject, curves: Curves, notify: Notify) -> Result<Option<Self>> {
        let Some(access) = Access::from_env()? else { return Ok(None) };
        let (messages, receiver) = channel();
        let worker = Worker::new(access, subject.clone(), curves, notify);
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
                StageInfo::new(stage, node, key).map(|stage_info| Message::Begin(stage_info, unix_time()))
            }
            Event::Metrics(metrics) => {
                let metrics = values::metrics(metrics).collect();
                Some(Message::Metrics { stage: stage.to_owned(), metrics })
            }
            Event::Finished { artifact } => end(FINISHED, Some(artifact)),
            Event::Paused { .. } => end(KILLED, None),
            Event::Failed { .. } => end(FAILED, None),
            Event::Hit { node, artifact } | Event::InRemote { node, artifact } => {
                StageInfo::new(stage, node, &artifact.key)
                    .map(|stage_info| Message::Stored(stage_info, Box::new(artifact.clone())))
            }
            _ => None,
        };
        // The channel is closed if the worker has panicked, which was reported.
        message.into_iter().for_each(|message| drop(self.messages.send(message)));
    }

    /// Waits until everything is logged, and logs how the whole has ended.
    pub(super) fn finish(self, end: &RunEnd<'_>) {
        drop(self.messages);
        if let Ok(worker) = self.worker.join() {
            worker.finish(end);
        }
    }
}
