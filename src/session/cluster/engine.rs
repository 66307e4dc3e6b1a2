//! What runs jobs: Slurm, and what others are like. An engine is given batches of jobs that are alike, and is asked for those
//! that haven't come to their end; what a job has done it needn't tell, for that is in the store.

use std::path::Path;

use anyhow::Result;

use super::{profile::Profile, resources::Resources};
use crate::support::{Hinted, Named, shell};

/// A kind of engine, in the registry [`ENGINES`](super::ENGINES).
pub trait Engine: Named + Sync {
    /// The keys of profiles that mean something to it, beside those that do to all.
    fn keys(&self) -> &'static [&'static str];

    /// What talks to it on this machine.
    ///
    /// # Errors
    /// If the profile lacks what it needs.
    fn open(&self, profile: &Profile) -> Result<Box<dyn Cluster>>;
}

/// An engine as this machine sees it.
pub trait Cluster {
    /// How many tasks a batch has at most, and the largest number of one.
    fn most_tasks(&mut self) -> usize;

    /// Whether it can hold jobs back until others are done. Where it can't, jobs are submitted when those are.
    fn has_order(&self) -> bool {
        true
    }

    /// What is submitted for a batch, for people to read as well.
    fn script(&self, batch: &Batch<'_>) -> String;

    /// Submits a script, and gives what the engine calls the batch.
    ///
    /// # Errors
    /// Why it doesn't take it, and whether it may later.
    fn submit(&mut self, script: &str) -> Result<String, Refusal>;

    /// Whether a script would be taken, without submitting it.
    ///
    /// # Errors
    /// Why it wouldn't, in the engine's words.
    fn test(&mut self, script: &str) -> Result<(), String>;

    /// The jobs of this user in the batches whose names begin so, in one question; `None` if it doesn't answer, which says
    /// nothing of the jobs. Those that ended long ago may be missing.
    fn jobs(&mut self, beginning: &str) -> Option<Vec<Job>>;

    /// What became of a job that isn't among them any more, and the memory that it has used, if it's remembered.
    fn remembered(&mut self, _id: &str, _task: usize) -> Option<(State, Option<String>)> {
        None
    }

    /// What a job printed last, where the run's folder has nothing of it.
    fn last_words(&mut self, _id: &str, _task: usize) -> Option<String> {
        None
    }

    /// Ends jobs, whether they run or wait.
    ///
    /// # Errors
    /// What it says.
    fn cancel(&mut self, jobs: &[Which]) -> Result<()>;
}

/// Jobs that are to be ended.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Which {
    /// All of a batch, by what the engine calls it.
    Batch(String),
    /// A task of a batch.
    Task(String, usize),
}

/// Jobs that are alike.
#[derive(Clone, Debug)]
pub struct Batch<'a> {
    /// Its name.
    pub name: &'a str,
    /// What the names of all batches begin with that are asked for together.
    pub run: &'a str,
    /// The run's folder, as machines see it.
    pub folder: &'a Path,
    /// Whether that is each machine's own, and has to be made.
    pub is_apart: bool,
    /// Its number in the run.
    pub number: usize,
    /// The numbers of its tasks, sorted.
    pub tasks: &'a [usize],
    /// What each is given.
    pub resources: &'a Resources,
    /// Bytes of memory that each takes by the estimate.
    pub estimate: Option<u64>,
    /// By what factor the time limit is longer than was asked for.
    pub longer: u32,
    /// Tasks that run at the same time, at most.
    pub throttle: Option<usize>,
    /// What has to be done before.
    pub after: &'a [After],
    /// The words of the command, behind which the number of the task comes.
    pub command: &'a [String],
}

impl Batch<'_> {
    /// The command as a shell takes it; `task` is what a shell takes for the number of the task.
    pub fn line(&self, task: &str) -> String {
        let words: Vec<String> = self.command.iter().map(|word| shell::quoted(word)).collect();
        format!("{} {task}", words.join(" "))
    }

    /// The command with what it prints going to a file of the run's folder, which is made where it's each machine's own.
    pub fn logged(&self, task: &str) -> String {
        let folder = shell::quoted(&self.folder.join("log").display().to_string());
        let made = if self.is_apart { format!("mkdir -p {folder}\n") } else { String::new() };
        format!("{made}exec {} >>{folder}/{}-{task}.log 2>&1", self.line(task), self.number)
    }

    /// All that a shell does for a task of a job that is called so; both words as it takes them.
    pub fn lines(&self, job: &str, task: &str) -> String {
        let mut lines = vec![format!("export PIPE_JOB={job}")];
        lines.extend(self.resources.cpus.map(|cpus| format!("export RAYON_NUM_THREADS={cpus}")));
        lines.extend(self.resources.before.iter().flatten().cloned());
        // `exec`, so that the program itself is told to stop.
        lines.push(self.logged(task));
        lines.join("\n")
    }

    /// The store's directory.
    pub fn store(&self) -> &Path {
        self.folder.ancestors().nth(2).unwrap_or(self.folder)
    }
}

/// What has to be done before a task of a batch begins.
#[derive(Clone, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub enum After {
    /// A task of another batch.
    Task(String, usize),
    /// The task of the same number in another batch.
    Same(String),
}

/// Why a batch isn't taken.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Refusal {
    /// Too much is submitted already: later it's taken.
    Full(String),
    /// It doesn't answer, and may have taken it all the same.
    Away(String),
    /// It never takes it.
    Never(String),
}

impl Refusal {
    /// By the words that an engine says when it's full, and when it's away.
    pub fn by_words(said: String, full: &[&str], away: &[&str]) -> Self {
        let says = |texts: &[&str]| texts.iter().any(|text| said.contains(text));
        if says(full) {
            Self::Full(said)
        } else if says(away) {
            Self::Away(said)
        } else {
            Self::Never(said)
        }
    }
}

/// A job that the engine knows.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Job {
    /// The name of its batch.
    pub batch: String,
    /// What the engine calls the batch.
    pub id: String,
    /// The number of its task.
    pub task: usize,
    /// What becomes of it.
    pub state: State,
}

/// What becomes of a job.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum State {
    /// It waits, for this reason in the engine's words.
    Waiting(String),
    /// It can never run, for this reason.
    Never(Hinted),
    /// It runs.
    Running,
    /// It ended well.
    Done,
    /// It ended with a failure of its own.
    Failed,
    /// Somebody has cancelled it.
    Cancelled,
    /// Its time was over.
    TimeLimit,
    /// It used more memory than it may.
    OutOfMemory,
    /// Its machine was lost.
    NodeLost,
    /// It made room for another one.
    Preempted,
    /// Its machine had no room for it any more, in the engine's words.
    Evicted(String),
    /// Its process was ended from outside, nobody says by whom.
    Killed,
}

impl State {
    /// Whether something is yet to come of it.
    pub fn is_open(&self) -> bool {
        matches!(self, Self::Waiting(_) | Self::Running)
    }
}
