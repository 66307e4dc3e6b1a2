//! `--on PROFILE`: which profile is meant, and what would be submitted.

use std::{
    io::{IsTerminal, Write},
    path::Path,
    sync::Arc,
};

use anyhow::Result;
use indexmap::IndexMap;
use serde_json::json;

use super::{
    args,
    console::{self, bytes, count, duration},
    exit::Exit,
    interrupt, load,
};
use crate::{
    engine::executor::Outcome,
    session::{
        Session,
        cluster::{
            LATER, LEFT, On, Preview, RunFolder, engines,
            profile::{self, FILE},
        },
    },
};

/// The cluster that the command line names, if it does.
///
/// # Errors
/// If there's no such profile, or a file of profiles has mistakes.
pub(super) fn chosen(options: &args::OnOptions, recipe: &args::Recipe) -> Result<Option<On>> {
    let Some(name) = &options.on else { return Ok(None) };
    Ok(Some(On { detach: options.detach, ..profile(name, recipe)? }))
}

/// The cluster of a profile.
///
/// # Errors
/// As [`chosen`].
pub(super) fn profile(name: &str, recipe: &args::Recipe) -> Result<On> {
    named(name, &recipe.recipe)
}

/// The cluster of a profile that stands beside this file, or in the user's own.
///
/// # Errors
/// As [`chosen`].
pub(super) fn named(name: &str, beside: &Path) -> Result<On> {
    let profile = profile::find(name, beside, &engines())?;
    Ok(On { name: name.to_owned(), profile, detach: false, cancels: Arc::new(asks) })
}

/// Asks what is to become of jobs when Ctrl-C was pressed; where nobody can be asked, they go on.
pub(super) fn asks() -> bool {
    if !std::io::stdin().is_terminal() || !std::io::stderr().is_terminal() {
        return false;
    }
    let _ = write!(std::io::stderr(), "jobs are under way: [l]eave them running, or [c]ancel them? [l] ");
    let mut answer = String::new();
    // A second Ctrl-C leaves them.
    interrupt::during(|| std::io::stdin().read_line(&mut answer)).is_ok() && answer.trim().eq_ignore_ascii_case("c")
}

/// Whether everything that isn't done was left to the cluster.
pub(super) fn is_left(outcomes: &IndexMap<String, Outcome>) -> bool {
    let left = [Some(LEFT), Some(LATER)];
    outcomes.values().all(|outcome| outcome.is_good() || left.contains(&outcome.error.as_deref()))
}

/// A session with the store that has a run.
///
/// # Errors
/// As [`chosen`], and if a store of another format is there.
pub(super) fn session(place: &args::Place, store: &Path) -> Result<Session> {
    let profile = place.on.as_deref().map(|name| named(name, Path::new(FILE))).transpose()?;
    let Some(on) = profile else { return load::session(store, None) };
    let session = load::session_on(&on, store, None)?;
    // Where machines share no disk, runs of another one are in the remote.
    if let Some(remote) = session.remote().filter(|_| on.profile.remote.is_some()) {
        RunFolder::bring_all(session.store(), remote)?;
    }
    Ok(session)
}

/// What shared disks and networks write in a second, roughly, for people to reckon with: 200 MB.
const SPEED: f64 = 2e8;

/// Prints what would be submitted.
///
/// # Errors
/// If stdout is gone.
pub(super) fn print(preview: &Preview, only_scripts: bool, json: bool) -> Result<Exit> {
    let Preview { batches, input_bytes, program_bytes } = preview;
    let jobs: usize = batches.iter().map(|batch| batch.jobs).sum();
    if json {
        let batches =
            batches.iter().map(|batch| json!({ "stages": batch.stages, "script": batch.script, "jobs": batch.jobs }));
        let batches: Vec<_> = batches.collect();
        let plan = json!({ "batches": batches, "input_bytes": input_bytes, "program_bytes": program_bytes });
        console::print(&format!("{plan:#}"))?;
        return Ok(Exit::Done);
    }
    for batch in batches {
        let above = if only_scripts { String::new() } else { format!("# {}\n", batch.stages.join(", ")) };
        console::print(format!("{above}{}", batch.script).trim_end())?;
    }
    if batches.is_empty() {
        console::eprint_line("nothing would be submitted");
        return Ok(Exit::Done);
    }
    let total = input_bytes + program_bytes;
    console::eprint_line(&format!("{} in {}", count(jobs, "job"), count(batches.len(), "submission")));
    console::eprint_line(&format!(
        "first the store is given {} of inputs and {} of the program, which it hasn't yet: {} at 200 MB/s",
        bytes(*input_bytes),
        bytes(*program_bytes),
        duration(total as f64 / SPEED)
    ));
    Ok(Exit::Done)
}
