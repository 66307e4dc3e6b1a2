//! Exit statuses, and whether a failure comes after work has begun.

use std::{
    process::ExitCode,
    sync::atomic::{AtomicBool, Ordering::Relaxed},
};

use indexmap::IndexMap;

use crate::engine::executor::{Ending, Outcome};

/// How a command ended.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Exit {
    /// Everything was done.
    Done = 0,
    /// A stage failed, an artifact is damaged, or something else went wrong after work had begun.
    Failed = 1,
    /// Nothing was run: the recipe or the command line is wrong, or something that's needed can't be read.
    Wrong = 2,
    /// All that was to run ran, and a metric isn't what the recipe expects.
    Broken = 3,
    /// A job of a cluster was stopped, and goes on when it's run again.
    Again = 75,
    /// What Rust ends a process with that panics; no command returns it.
    Panicked = 101,
    /// Ended by a signal, as shells count Ctrl-C.
    Interrupted = 130,
}

impl Exit {
    const ALL: [Self; 7] =
        [Self::Done, Self::Failed, Self::Wrong, Self::Broken, Self::Again, Self::Panicked, Self::Interrupted];

    /// Of a run of these stages: [`Self::Failed`] if one failed or couldn't run; [`Self::Interrupted`] if nothing failed, but
    /// stages were paused or left out by Ctrl-C.
    pub(super) fn of_stages(outcomes: &IndexMap<String, Outcome>) -> Self {
        let any = |ending: Ending| outcomes.values().any(|outcome| outcome.ending == ending);
        match (any(Ending::Failed), any(Ending::Paused) || any(Ending::NotRun)) {
            (true, _) => Self::Failed,
            (false, true) => Self::Interrupted,
            (false, false) => Self::Done,
        }
    }

    /// Of an error: [`Self::Failed`] if work has begun, or else [`Self::Wrong`].
    pub(super) fn of_error() -> Self {
        if WORKED.load(Relaxed) { Self::Failed } else { Self::Wrong }
    }

    /// The number.
    pub(super) fn status(self) -> u8 {
        self as u8
    }

    /// The word for it in logs.
    pub(super) fn word(self) -> &'static str {
        match self {
            Self::Done => "done",
            Self::Failed | Self::Wrong | Self::Panicked => "failed",
            Self::Broken => "broken",
            Self::Again | Self::Interrupted => "interrupted",
        }
    }

    fn meaning(self) -> &'static str {
        match self {
            Self::Done => "everything is done, and all expectations that could be judged are met",
            Self::Failed => "a stage failed, an artifact is damaged, or something else went wrong after work had begun",
            Self::Wrong => {
                "nothing was run: the recipe or the command line is wrong, or something that's needed can't be read"
            }
            Self::Broken => "everything ran, and a metric isn't what the recipe expects of it",
            Self::Again => "a job of a cluster was stopped, its state kept; it goes on from there when it's run again",
            Self::Panicked => "an internal error, a bug: please report what was printed",
            Self::Interrupted => {
                "stopped by Ctrl-C, SIGTERM or SIGHUP (a terminal that was closed); the same command resumes"
            }
        }
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit.status())
    }
}

/// All statuses with their meanings.
pub(super) fn table() -> Vec<(u8, &'static str)> {
    Exit::ALL.map(|exit| (exit.status(), exit.meaning())).into()
}

/// The same for `--help`.
pub(super) fn help() -> String {
    let lines = table().into_iter().map(|(status, meaning)| format!("\n  {status:>3}  {meaning}"));
    format!("Exit status:{}", lines.collect::<String>())
}

/// Whether anything was run, written or removed by now.
static WORKED: AtomicBool = AtomicBool::new(false);

/// From now on something is run, written or removed, so that an error no longer means that nothing was.
pub(super) fn work_begins() {
    WORKED.store(true, Relaxed);
}
