//! `pipe stage`: how a process computes a stage for the one that launched it, and how a job of a cluster does.

use std::{
    io::{stdin, stdout},
    process::Command,
};

use anyhow::Result;

use super::{
    args::Stage,
    console,
    exit::{self, Exit},
    interrupt,
    progress::ProgressReporter,
};
use crate::session::{
    cluster::worker::{self, Worked},
    launch,
};

/// The command by which a job has itself run again.
const AGAIN: &str = "PIPE_AGAIN";

/// `pipe stage`, with the job on stdin, which ends well where the stage's own failure could be reported; or as a job, with
/// statuses that tell whether it's of use to run it again.
pub(super) fn stage(command: &Stage) -> Result<Exit> {
    if let (Some(folder), Some(batch), Some(task)) = (&command.job, command.batch, command.task) {
        interrupt::install_for_jobs()?;
        let (progress, stop) = (ProgressReporter::new(), interrupt::flag());
        let remote = command.apart.as_deref();
        let worked = interrupt::during(|| worker::work(folder, batch, task, remote, &stop, &progress));
        progress.end();
        let worked = worked?;
        exit::work_begins();
        return Ok(match worked {
            Worked::Done => Exit::Done,
            Worked::Failed => Exit::Failed,
            Worked::Again => {
                run_again();
                Exit::Again
            }
        });
    }
    interrupt::install_for_stages()?;
    interrupt::during(|| launch::compute(stdin(), stdout(), &interrupt::flag()))?;
    Ok(Exit::Done)
}

/// A job whose time is nearly over has itself run again, since it may be that nobody follows the run.
fn run_again() {
    let Ok(again) = std::env::var(AGAIN) else { return };
    let mut words = again.split_whitespace();
    if interrupt::is_warned()
        && let Some(program) = words.next()
        && let Err(error) = Command::new(program).args(words).status()
    {
        console::eprint_line(&format!("can't have it run again by `{again}`: {error}"));
    }
}
