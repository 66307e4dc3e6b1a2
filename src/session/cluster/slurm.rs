//! Slurm, by its commands: `sbatch`, `squeue` and `scancel`, and `sacct` where there is one. A batch is an array. Formats are
//! those of `-o`, which have stayed the same for ten years.

mod script;

use std::process::Command;

use anyhow::{Result, bail};

use super::{
    commands::{self, Said},
    engine::{Batch, Cluster, Engine, Job, Refusal, State, Which},
    profile::Profile,
};
use crate::support::{Hinted, Named};

/// The engine.
pub(super) struct Slurm;

/// The largest array, where the controller doesn't tell: Slurm's own default.
const MOST_TASKS: usize = 1001;

impl Named for Slurm {
    fn name(&self) -> &'static str {
        "slurm"
    }
}

impl Engine for Slurm {
    fn keys(&self) -> &'static [&'static str] {
        &[
            "throttle",
            "account",
            "partition",
            "qos",
            "time",
            "constraint",
            "exclude",
            "reservation",
            "container",
            "environment",
            "options",
        ]
    }

    fn open(&self, _profile: &Profile) -> Result<Box<dyn Cluster>> {
        Ok(Box::new(Controller { most_tasks: None }))
    }
}

struct Controller {
    most_tasks: Option<usize>,
}

fn command(name: &str, arguments: &[&str], input: &str) -> std::io::Result<Said> {
    let mut command = Command::new(name);
    command.args(arguments);
    // Within a job these are that job's, and options to the next one.
    let inherited = std::env::vars_os().filter_map(|(name, _)| name.into_string().ok());
    for name in inherited.filter(|name| name.starts_with("SLURM_") && name != "SLURM_CONF" && name != "SLURM_CLUSTERS")
    {
        command.env_remove(name);
    }
    // Reasons are told by their words.
    command.env("LC_ALL", "C");
    commands::run(&mut command, input)
}

impl Cluster for Controller {
    fn most_tasks(&mut self) -> usize {
        *self.most_tasks.get_or_insert_with(|| {
            let said = command("scontrol", &["show", "config"], "").ok().filter(|said| said.is_well);
            let line =
                said.and_then(|said| said.out.lines().find(|line| line.starts_with("MaxArraySize")).map(str::to_owned));
            line.and_then(|line| line.split('=').nth(1)?.trim().parse().ok()).unwrap_or(MOST_TASKS)
        })
    }

    fn script(&self, batch: &Batch<'_>) -> String {
        script::script(batch)
    }

    fn submit(&mut self, script: &str) -> Result<String, Refusal> {
        let said = command("sbatch", &["--parsable"], script)
            .map_err(|error| Refusal::Never(format!("sbatch can't be run here: {error}")))?;
        // A cluster's name may follow.
        let id = said.out.lines().last().unwrap_or_default().split(';').next().unwrap_or_default();
        if said.is_well && !id.is_empty() && id.bytes().all(|byte| byte.is_ascii_digit()) {
            return Ok(id.to_owned());
        }
        Err(refusal(&said.error))
    }

    fn test(&mut self, script: &str) -> Result<(), String> {
        let said = command("sbatch", &["--test-only"], script)
            .map_err(|error| format!("sbatch can't be run here: {error}"))?;
        if said.is_well { Ok(()) } else { Err(plain(&said.error)) }
    }

    fn jobs(&mut self, beginning: &str) -> Option<Vec<Job>> {
        let arguments = ["-h", "-r", "--me", "-t", "all", "-o", "%i|%T|%r|%j"];
        let said = command("squeue", &arguments, "").ok().filter(|said| said.is_well)?;
        Some(said.out.lines().filter_map(job).filter(|job| job.batch.starts_with(beginning)).collect())
    }

    fn remembered(&mut self, id: &str, task: usize) -> Option<(State, Option<String>)> {
        let job = format!("{id}_{task}");
        let said = command("sacct", &["-j", &job, "-n", "-P", "-o", "State,MaxRSS"], "").ok()?;
        if !said.is_well {
            return None;
        }
        let lines: Vec<(&str, &str)> = said.out.lines().filter_map(|line| line.split_once('|')).collect();
        let used = lines.iter().map(|(_, used)| *used).rfind(|used| !used.is_empty());
        Some((state(lines.first()?.0, ""), used.map(str::to_owned)))
    }

    fn cancel(&mut self, jobs: &[Which]) -> Result<()> {
        let name = |which: &Which| match which {
            Which::Batch(id) => id.clone(),
            Which::Task(id, task) => format!("{id}_{task}"),
        };
        let names: Vec<String> = jobs.iter().map(name).collect();
        let said = command("scancel", &names.iter().map(String::as_str).collect::<Vec<_>>(), "")?;
        // Those that have ended by now aren't known any more.
        if !said.is_well && !said.error.contains("Invalid job id") {
            bail!("scancel: {}", said.error);
        }
        Ok(())
    }
}

/// What `sbatch` means by what it says on stderr. With each it ends with status 1.
fn refusal(said: &str) -> Refusal {
    const FULL: [&str; 6] = [
        "MaxSubmitJob",
        "AssocMaxSubmitJobLimit",
        "job submit limit",
        "Job violates accounting/QOS policy",
        "Slurm temporarily unable to accept job",
        "Resource temporarily unavailable",
    ];
    const AWAY: [&str; 4] =
        ["Unable to contact slurm controller", "Socket timed out", "Unexpected message received", "Connection refused"];
    Refusal::by_words(plain(said), &FULL, &AWAY)
}

/// What `sbatch` says, in a line.
fn plain(said: &str) -> String {
    let said = said.replace("sbatch: error: ", "").replace("allocation failure: ", "");
    said.lines().map(str::trim).collect::<Vec<_>>().join("; ")
}

/// A line of `squeue`: `1_7|PENDING|Resources|NAME`.
fn job(line: &str) -> Option<Job> {
    let mut parts = line.splitn(4, '|');
    let (id, word, reason, name) = (parts.next()?, parts.next()?, parts.next()?, parts.next()?);
    let (id, task) = id.split_once('_')?;
    Some(Job { batch: name.to_owned(), id: id.to_owned(), task: task.parse().ok()?, state: state(word, reason) })
}

/// For reasons for which a job never begins unless somebody changes it: what they mean, and what to do.
fn never(reason: &str) -> Option<Hinted> {
    let (what, hint) = match reason {
        "PartitionTimeLimit" => {
            ("its time limit is longer than the partition allows", "lower `time`, or take another `partition`")
        }
        "PartitionNodeLimit" | "BadConstraints" => (
            "no machine has what it asks for",
            "look at `constraint`, `gpus`, `memory` and `cpus`; `sinfo` tells what there is",
        ),
        "InvalidAccount" | "AccountNotAllowed" => {
            ("its account may not be used there", "`account` in the profile; `sacctmgr show assoc` lists yours")
        }
        "InvalidQOS" | "QOSNotAllowed" => ("its quality of service may not be used there", "`qos` in the profile"),
        "JobHeldAdmin" => ("an administrator holds it back", "ask them"),
        "DependencyNeverSatisfied" => ("what it waits for has failed", "run it again once that's mended"),
        _ => return None,
    };
    Some(Hinted::with(format!("{what} ({reason})"), hint))
}

/// A state by its name, as `squeue` and `sacct` write it.
fn state(word: &str, reason: &str) -> State {
    let word = word.split_whitespace().next().unwrap_or_default();
    if let Some(told) = never(reason).filter(|_| word == "PENDING") {
        return State::Never(told);
    }
    match word {
        "COMPLETED" => State::Done,
        "FAILED" => State::Failed,
        "CANCELLED" | "REVOKED" => State::Cancelled,
        "TIMEOUT" | "DEADLINE" => State::TimeLimit,
        "OUT_OF_MEMORY" => State::OutOfMemory,
        "NODE_FAIL" | "BOOT_FAIL" => State::NodeLost,
        "PREEMPTED" => State::Preempted,
        "RUNNING" | "COMPLETING" | "CONFIGURING" | "SUSPENDED" | "STAGE_OUT" | "SIGNALING" | "RESIZING" | "STOPPED" => {
            State::Running
        }
        // Whatever else there is comes before it runs: REQUEUED and its like.
        _ => State::Waiting(reason.to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refusals_are_told_apart_by_what_sbatch_says() {
        // Seen with Slurm 22.05, with accounting.
        let full = "sbatch: error: QOSMaxSubmitJobPerUserLimit\nsbatch: error: Batch job submission failed: Job violates \
                    accounting/QOS policy (job submit limit, user's size and/or time limits)";
        assert!(matches!(refusal(full), Refusal::Full(said) if !said.contains("sbatch: error")));
        let away = "sbatch: error: Batch job submission failed: Unable to contact slurm controller (connect failure)";
        assert!(matches!(refusal(away), Refusal::Away(_)));
        for never in
            ["Invalid job array specification", "Invalid partition name specified", "Invalid qos specification"]
        {
            assert_eq!(refusal(never), Refusal::Never(never.to_owned()));
        }
    }

    #[test]
    fn lines_of_squeue_are_jobs() {
        let waiting = |reason: &str| State::Waiting(reason.to_owned());
        for (line, id, task, expected) in [
            ("12_7|PENDING|Resources|pipe-a-0", "12", 7, waiting("Resources")),
            ("12_7|PENDING|BeginTime|pipe-a-0", "12", 7, waiting("BeginTime")),
            ("3_0|PENDING|BadConstraints|n", "3", 0, State::Never(never("BadConstraints").unwrap())),
            ("3_0|RUNNING|None|n", "3", 0, State::Running),
            ("3_0|COMPLETING|None|n", "3", 0, State::Running),
            ("3_0|OUT_OF_MEMORY|OutOfMemory|n", "3", 0, State::OutOfMemory),
            ("3_0|TIMEOUT|TimeLimit|n", "3", 0, State::TimeLimit),
            ("3_0|NODE_FAIL|NodeDown|n", "3", 0, State::NodeLost),
            ("3_0|REQUEUED|None|n", "3", 0, waiting("None")),
        ] {
            let name = line.rsplit('|').next().unwrap().to_owned();
            assert_eq!(job(line), Some(Job { batch: name, id: id.to_owned(), task, state: expected }), "{line}");
        }
        assert_eq!(job("12|RUNNING|None|somebody's"), None);
        assert_eq!(state("CANCELLED by 1000", ""), State::Cancelled);
    }
}
