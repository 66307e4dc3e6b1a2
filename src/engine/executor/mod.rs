//! Runs a graph of stages: each as soon as what it needs is there, and only if the store doesn't have it.

mod queue;
mod run;
mod sources;
mod task;

use std::{
    collections::BTreeMap,
    fmt,
    ops::Deref,
    path::{Path, PathBuf},
    sync::atomic::{AtomicBool, Ordering},
    time::Duration,
};

use anyhow::{Result, bail};
use indexmap::IndexMap;
use serde_json::Value;

use crate::engine::{
    plan::{Node, Plan, Planned, Status},
    store::{Artifact, Metrics, State, Throughput, clear_directory, free_space, is_full},
};
use sources::Sources;

pub use run::{Options, execute};
pub use task::{Busy, Done, IfHeld, InputLost, Launch, Local, Task, Watch};

/// Does the work of a stage. The executor knows stages only through this, so it can be tested without any.
pub trait Runner: Sync {
    /// Computes the stage into `job.out` and gives its metrics.
    ///
    /// # Errors
    /// Whatever keeps the stage from being computed; the artifact isn't made then.
    fn run(&self, job: &Job<'_>) -> Result<Computed>;

    /// The name of the device that the stage was computed on, asked for after it was.
    fn device(&self, _node: &Node) -> String {
        String::new()
    }

    /// How the CPU of this machine computes, where results depend on it.
    fn arithmetic(&self) -> String {
        String::new()
    }
}

/// What is known of a stage that was computed, beside its files.
#[derive(Clone, Debug, Default)]
pub struct Computed {
    /// Its metrics.
    pub metrics: Metrics,
    /// Of a training, how fast it was on its way.
    pub throughput: Throughput,
    /// Of a training, some of the examples that it was given, in the form in which its kind shows them.
    pub examples: Vec<Value>,
}

impl From<Metrics> for Computed {
    fn from(metrics: Metrics) -> Self {
        Self { metrics, ..Self::default() }
    }
}

/// What a stage is computed from, beside its settings.
pub struct Inputs<'a> {
    /// The seed that applies to it.
    pub seed: u64,
    /// The files it reads, by the field that names them.
    pub files: &'a BTreeMap<String, Vec<PathBuf>>,
    /// The artifacts it reads, by the field that names their stage.
    pub artifacts: BTreeMap<String, Artifact>,
}

/// One stage to compute. What it's computed from is a job's own: `job.seed` is `job.inputs.seed`.
pub struct Job<'a> {
    /// Its id in the plan.
    pub name: &'a str,
    /// The stage.
    pub node: &'a Node,
    /// What it's computed from.
    pub inputs: Inputs<'a>,
    /// Where it writes.
    pub out: &'a Path,
    /// State to resume from after a stop or a failure.
    pub state: State,
    /// For a training that longer ones can resume from: where those of all lengths leave how far they came.
    pub trunk: Option<State>,
    /// Where a training is to pause, unless that is its end: at one in so many of its steps.
    pub until: Option<usize>,
    /// Whether the stage should stop at a point from which it can resume; see [`Job::is_stopped`].
    pub stop: &'a AtomicBool,
    /// Set when another process has taken the stage over, since this one was suspended for long.
    pub lost: &'a AtomicBool,
    /// Progress sink.
    pub reporter: &'a dyn Reporter,
    /// What becomes of its files.
    sources: &'a Sources,
}

impl<'a> Deref for Job<'a> {
    type Target = Inputs<'a>;

    fn deref(&self) -> &Inputs<'a> {
        &self.inputs
    }
}

impl Job<'_> {
    /// Reports an event of this stage.
    pub fn report(&self, event: Event<'_>) {
        self.reporter.event(self.name, event);
    }

    /// Says that all files have been read, so that what becomes of them from here on changes nothing; a stage that reads
    /// them and then works for long should. They are looked at in the end otherwise.
    ///
    /// # Errors
    /// If they have changed meanwhile. It has to be the stage's own error then.
    pub fn has_read(&self) -> Result<()> {
        self.sources.done()
    }

    /// Makes ready for the stage to be computed once more from its files and its state, whatever it has read and written.
    ///
    /// # Errors
    /// If files have changed meanwhile, or what it has written can't be removed. It has to be the stage's own error then.
    pub fn starts_over(&self) -> Result<()> {
        clear_directory(self.out)?;
        self.sources.read_again()
    }

    /// Writes what the stage has come to, of so many bytes. On a disk that is full, what could be resumed from is given up
    /// for it: first what longer trainings could begin with, then the stage's own state, if that makes room enough.
    ///
    /// # Errors
    /// That of `write`; what could be resumed from is still there then, as far as it was.
    pub fn finish(&self, bytes: u64, write: &dyn Fn() -> Result<()>) -> Result<()> {
        let before = entries(self.out);
        let attempt = || {
            write().inspect_err(|_| {
                // Half of it would only be in the way.
                let new = entries(self.out).into_iter().filter(|path| !before.contains(path));
                new.for_each(|path| drop(fs_err::remove_file(path)));
            })
        };
        let mut error = match attempt() {
            Err(error) if is_full(&error) => error,
            result => return result,
        };
        if let Some(trunk) = self.trunk.as_ref().filter(|trunk| trunk.bytes() > 0) {
            trunk.clear()?;
            self.report(Event::Note("the disk is full, so there's no state for longer trainings to begin with"));
            error = match attempt() {
                Err(error) if is_full(&error) => error,
                result => return result,
            };
        }
        let state = self.state.bytes();
        if state + free_space(self.out).unwrap_or_default() < bytes || state == 0 {
            return Err(error);
        }
        self.state.clear()?;
        self.report(Event::Note("the disk is full, so the checkpoint makes room for the result"));
        attempt()
    }

    /// Whether a stop was requested. It keeps its state then, and its error is [`Paused`].
    pub fn is_stopped(&self) -> bool {
        self.stop.load(Ordering::SeqCst) || self.lost.load(Ordering::SeqCst)
    }

    /// For a stage without state: reports progress, and stops if that was requested.
    ///
    /// # Errors
    /// [`Paused`] if it's stopped.
    pub fn progressed(&self, done: usize, total: usize, note: &str) -> Result<()> {
        self.report(Event::Progress { done: done as u64, total: total as u64, note, remaining: None });
        if done < total && self.is_stopped() {
            bail!(Paused::at("stopped; it starts over next time"));
        }
        Ok(())
    }
}

/// What is in a directory.
fn entries(dir: &Path) -> Vec<PathBuf> {
    std::fs::read_dir(dir).into_iter().flatten().flatten().map(|entry| entry.path()).collect()
}

/// The error of a stage that didn't fail: it was stopped, and resumes from its state when it's run again.
#[derive(Debug)]
pub struct Paused {
    /// How far it is, such as `stopped after step 20 of 100`.
    pub place: String,
    /// Its metrics so far.
    pub metrics: Metrics,
    /// What it has measured by then: it's kept under the stage's key.
    pub measured: Option<Value>,
}

impl Paused {
    /// The pause of a stage without metrics.
    pub fn at(place: impl Into<String>) -> Self {
        Self { place: place.into(), metrics: Metrics::new(), measured: None }
    }
}

impl fmt::Display for Paused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.place)
    }
}

impl std::error::Error for Paused {}

/// Receives events, from any thread.
pub trait Reporter: Sync {
    /// Something happened to a stage.
    fn event(&self, stage: &str, event: Event<'_>);
}

impl Reporter for Vec<&dyn Reporter> {
    fn event(&self, stage: &str, event: Event<'_>) {
        self.iter().for_each(|reporter| reporter.event(stage, event));
    }
}

/// What can happen to a stage.
#[derive(Clone, Copy, Debug)]
pub enum Event<'a> {
    /// It's in the store already.
    Hit {
        /// The stage.
        node: &'a Node,
        /// Its artifact.
        artifact: &'a Artifact,
    },
    /// It's in the remote; its files are fetched when something reads them.
    InRemote {
        /// The stage.
        node: &'a Node,
        /// Its record.
        artifact: &'a Artifact,
    },
    /// Its files are being fetched from the remote.
    Fetching,
    /// They're here.
    Fetched,
    /// Another process, or another stage of the same key, is computing it.
    Waiting,
    /// Its computation begins.
    Started {
        /// The stage.
        node: &'a Node,
        /// Its key.
        key: &'a str,
    },
    /// It's this far.
    Progress {
        /// Units done.
        done: u64,
        /// Units in all; 0 if unknown.
        total: u64,
        /// Details: loss, tokens/s.
        note: &'a str,
        /// How long the rest will take, where that can be estimated.
        remaining: Option<Duration>,
    },
    /// Metrics of a training, in the order of their steps. After a resume, those up to the resumed step come first.
    Metrics(&'a [StepMetrics]),
    /// Something that a person should read.
    Note(&'a str),
    /// It's done.
    Finished {
        /// Its artifact.
        artifact: &'a Artifact,
    },
    /// It was stopped, and resumes from there when it's run again.
    Paused {
        /// How far it is.
        place: &'a str,
    },
    /// It failed.
    Failed {
        /// Why.
        error: &'a anyhow::Error,
    },
    /// It can't run, since this stage before it failed or was paused.
    NotRun {
        /// The stage before it.
        because: &'a str,
        /// What became of that: `failed` or `was paused`.
        how: &'static str,
    },
}

/// Metrics of a training at one of its steps.
#[derive(Clone, Debug, PartialEq)]
pub struct StepMetrics {
    /// The steps done, that one among them.
    pub step: usize,
    /// When that was, in seconds since 1970.
    pub at: f64,
    /// By name: `loss`, `lr`, `grad_norm`, `tokens_per_second`, and dev metrics as `dev/accuracy`.
    pub values: Vec<(String, f64)>,
}

/// How a stage ended.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Ending {
    /// It was in the store.
    Hit,
    /// It was in the remote.
    Fetched,
    /// It was computed.
    Ran,
    /// It was stopped, and resumes when it's run again.
    Paused,
    /// Its computation failed.
    Failed,
    /// A stage before it failed or was paused, or not scheduled: the run was stopped before.
    NotRun,
    /// Of a sweep's cell that did worse than others: it was left where it was.
    Stopped,
}

/// What there is of a plan's stages if none of them is run.
pub fn outcomes(plan: &Plan) -> IndexMap<String, Outcome> {
    let outcome = |(id, planned): (&str, &Planned)| {
        let ending = match &planned.status {
            Status::Hit(_) => Ending::Hit,
            Status::Remote(_) => Ending::Fetched,
            Status::Miss { .. } | Status::Waits => Ending::NotRun,
        };
        let outcome = Outcome {
            kind: planned.node.kind.clone(),
            ending,
            key: planned.key.known().map(str::to_owned),
            seconds: 0.0,
            artifact: planned.status.artifact().cloned(),
            error: None,
            so_far: Metrics::new(),
        };
        (id.to_owned(), outcome)
    };
    plan.stages().map(outcome).collect()
}

impl Outcome {
    /// Of a stage that didn't end well, or wasn't begun.
    pub(crate) fn without_artifact(kind: &str, ending: Ending, error: String) -> Self {
        let so_far = Metrics::new();
        Self { kind: kind.to_owned(), ending, key: None, seconds: 0.0, artifact: None, error: Some(error), so_far }
    }
}

impl Ending {
    /// The word in `--json`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Hit => "hit",
            Self::Fetched => "fetched",
            Self::Ran => "ran",
            Self::Paused => "paused",
            Self::Failed => "failed",
            Self::NotRun => "not_run",
            Self::Stopped => "stopped",
        }
    }

    /// Whether it ended with an artifact.
    pub fn is_good(self) -> bool {
        matches!(self, Self::Hit | Self::Fetched | Self::Ran)
    }
}

/// What became of a stage.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// Its kind.
    pub kind: String,
    /// How it ended.
    pub ending: Ending,
    /// Its key, where it got as far.
    pub key: Option<String>,
    /// Time it took in this run.
    pub seconds: f64,
    /// Its artifact, if it has one.
    pub artifact: Option<Artifact>,
    /// What failed, or how far a paused stage is.
    pub error: Option<String>,
    /// The metrics of a paused stage so far; those of a finished one are its artifact's.
    pub so_far: Metrics,
}

impl Outcome {
    /// Whether its artifact is there.
    pub fn is_good(&self) -> bool {
        self.ending.is_good()
    }
}
