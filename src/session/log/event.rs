//! The lines of a run's file.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use crate::engine::{
    executor::Event,
    plan::Node,
    store::{Artifact, Provenance, unix_time},
};

/// The version of what is written. Later ones may know more events; readers pass over what they don't know.
pub const FORMAT: u32 = 1;

/// A line.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub struct Line {
    /// When, in seconds since 1970 by this machine's clock.
    pub at: f64,
    /// What happened.
    pub what: What,
}

/// What happened in a run.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum What {
    /// It began: the first line.
    Begun(Begun),
    /// Something happened to a stage.
    Stage {
        /// The stage.
        id: String,
        /// What.
        event: StageEvent,
    },
    /// It ended: the last line, unless the process was killed.
    Ended {
        /// How: `done`, `failed`, `broken` or `interrupted`.
        how: String,
    },
}

/// Which run it is.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub struct Begun {
    /// [`FORMAT`].
    pub format: u32,
    /// Version of the program.
    pub pipe: String,
    /// The command: `run`, `sweep` or `ci`.
    pub command: String,
    /// The recipe's file.
    pub recipe: String,
    /// `--var` and `--set` options.
    pub overrides: Vec<String>,
    /// The machine.
    pub host: String,
    /// The process on it.
    pub process: u32,
}

impl Begun {
    /// Of this process, by what is recorded with the artifacts of the run.
    pub fn here(command: &str, recipe: &str, provenance: &Provenance) -> Self {
        Self {
            format: FORMAT,
            pipe: provenance.pipe.clone(),
            command: command.to_owned(),
            recipe: recipe.to_owned(),
            overrides: provenance.overrides.clone(),
            host: provenance.host.clone(),
            process: std::process::id(),
        }
    }
}

/// What happened to a stage: [`Event`] without what is stored elsewhere (metrics of steps) or large.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum StageEvent {
    /// It's in the store already.
    Hit(Found),
    /// It's in the remote.
    InRemote(Found),
    /// Its files are being fetched.
    Fetching,
    /// They're here.
    Fetched,
    /// Another process is computing it.
    Waiting,
    /// Its computation begins.
    Started {
        /// Its kind.
        kind: String,
        /// Its key.
        key: String,
        /// The stages that it needs.
        needs: BTreeSet<String>,
    },
    /// It's this far; written now and then.
    Progress {
        /// Units done.
        done: u64,
        /// Units in all; 0 if unknown.
        total: u64,
        /// Details.
        note: String,
    },
    /// Something that a person should read.
    Note(String),
    /// It's done.
    Finished {
        /// Seconds that it took to compute.
        seconds: f64,
    },
    /// It was stopped, and resumes.
    Paused {
        /// How far it is.
        place: String,
    },
    /// It failed.
    Failed {
        /// With what.
        error: String,
    },
    /// It can't run.
    NotRun {
        /// Since this stage before it
        because: String,
        /// failed or was paused.
        how: String,
    },
}

/// A stage whose artifact was there.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub struct Found {
    /// Its kind.
    pub kind: String,
    /// Its key.
    pub key: String,
    /// The stages that it needs.
    pub needs: BTreeSet<String>,
    /// Seconds that it took when it was computed.
    pub seconds: f64,
}

impl Found {
    fn new(node: &Node, artifact: &Artifact) -> Self {
        let needs = needs(node);
        let seconds = artifact.provenance.seconds;
        Self { kind: node.kind.clone(), key: artifact.key.clone(), needs, seconds }
    }
}

fn needs(node: &Node) -> BTreeSet<String> {
    node.needs.values().cloned().collect()
}

impl StageEvent {
    /// Of an event; `scrub` takes secrets out of what stages say. None of what isn't logged.
    pub(super) fn of(event: Event<'_>, scrub: &dyn Fn(&str) -> String) -> Option<Self> {
        Some(match event {
            Event::Hit { node, artifact } => Self::Hit(Found::new(node, artifact)),
            Event::InRemote { node, artifact } => Self::InRemote(Found::new(node, artifact)),
            Event::Fetching => Self::Fetching,
            Event::Fetched => Self::Fetched,
            Event::Waiting => Self::Waiting,
            Event::Started { node, key } => {
                Self::Started { kind: node.kind.clone(), key: key.to_owned(), needs: needs(node) }
            }
            Event::Progress { done, total, note, .. } => Self::Progress { done, total, note: scrub(note) },
            Event::Metrics(_) => return None,
            Event::Note(note) => Self::Note(scrub(note)),
            Event::Finished { artifact } => Self::Finished { seconds: artifact.provenance.seconds },
            Event::Paused { place } => Self::Paused { place: scrub(place) },
            Event::Failed { error } => Self::Failed { error: scrub(&crate::support::explained(error)) },
            Event::NotRun { because, how } => Self::NotRun { because: because.to_owned(), how: how.to_owned() },
        })
    }
}

impl Line {
    /// Of what happens now.
    pub(super) fn now(what: What) -> Self {
        Self { at: unix_time(), what }
    }
}
