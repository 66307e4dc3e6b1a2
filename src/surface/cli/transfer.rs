//! `pipe push` and `pipe pull`; and what went to and from the remote.

use std::{collections::BTreeMap, path::Path};

use anyhow::{Result, bail};
use serde_json::{Map, Value, json};

use super::{
    args::Transfer,
    console::{self, bytes, count},
    exit::{self, Exit},
    load::{self, Loaded, RemoteChoice},
};
use crate::{
    engine::{
        plan::{Plan, Planned, Status},
        remote::{Delivery, Remote},
    },
    session::{Session, Wanted},
    support::Hinted,
};

/// The word for a stage that is here, and that the remote couldn't be given.
const FAILED_TO_PUSH: &str = "not pushed";

/// The error of a command that works with a remote where there is none.
fn no_remote() -> Hinted {
    Hinted::with("no remote was named", "--remote URL, or PIPE_REMOTE")
}

/// `pipe push RECIPE`: what other machines lack of what was computed here. The remote is asked for each file, whatever is
/// remembered of it.
pub(super) fn push(command: &Transfer, store: &Path, remote: Option<RemoteChoice<'_>>) -> Result<Exit> {
    let (session, plan) = planned(command, store, remote)?;
    let remote = session.remote().ok_or_else(no_remote)?;
    if remote.is_read_only() {
        bail!(Hinted::with("there is nothing to push to: the remote is only read", "--remote-readonly=false"));
    }
    exit::work_begins();
    let mut delivered: BTreeMap<&str, Delivery> = BTreeMap::new();
    for (name, Planned { status, .. }) in plan.stages() {
        if let Status::Hit(artifact) = status {
            delivered.insert(name, remote.deliver(artifact));
        }
    }
    // What is there alone is looked at last: files that it shares with others may have been mended by now.
    let word = |name: &str, status: &Status| match (delivered.get(name), status) {
        (Some(Delivery::There), _) => "here",
        (Some(Delivery::Sent), _) => "pushed",
        (Some(Delivery::Failed), _) => FAILED_TO_PUSH,
        (None, Status::Remote(artifact)) => match remote.has_files(artifact) {
            Ok(true) => "remote",
            Ok(false) => {
                console::eprint_line(&format!("{name}: its files in the remote aren't whole, and they aren't here"));
                "missing"
            }
            Err(error) => {
                console::eprint_line(&format!("{name}: {}", console::error_text(&error)));
                "missing"
            }
        },
        (None, _) => "missing",
    };
    let word = |(name, planned): (&str, &Planned)| (name.to_owned(), Value::from(word(name, &planned.status)));
    let stages: Map<String, Value> = plan.stages().map(word).collect();
    report(command, remote, &stages)
}

/// `pipe pull RECIPE`: with all files, as if it had been computed here.
pub(super) fn pull(command: &Transfer, store: &Path, remote: Option<RemoteChoice<'_>>) -> Result<Exit> {
    let (session, plan) = planned(command, store, remote)?;
    let remote = session.remote().ok_or_else(no_remote)?;
    exit::work_begins();
    let mut stages = Map::new();
    for (name, Planned { status, .. }) in plan.stages() {
        if !command.stages.is_empty() && !command.stages.iter().any(|stage| stage == name) {
            continue;
        }
        let word = match status {
            Status::Hit(_) => "here",
            Status::Remote(artifact) => match load::materialise(remote, name, artifact) {
                Ok(_) => "fetched",
                Err(error) => {
                    console::eprint_line(&format!("{name}: {}", console::error_text(&error)));
                    "missing"
                }
            },
            Status::Miss { .. } | Status::Waits => "missing",
        };
        stages.insert(name.to_owned(), word.into());
    }
    report(command, remote, &stages)
}

fn planned(command: &Transfer, store: &Path, remote: Option<RemoteChoice<'_>>) -> Result<(Session, Plan)> {
    let Loaded { graph, .. } = load::load(&command.recipe)?;
    let graph = Wanted { stages: command.stages.clone(), ..Wanted::default() }.of(graph)?;
    let session = load::session(store, remote)?;
    // What was there yesterday may be gone.
    session.remote().ok_or_else(no_remote)?.ask();
    let plan = session.everywhere().plan(&graph)?;
    Ok((session, plan))
}

/// A stage that is in neither place, or couldn't be brought to the other, is a failure.
fn report(command: &Transfer, remote: &Remote, stages: &Map<String, Value>) -> Result<Exit> {
    let transferred = finish(remote);
    if command.json {
        console::print(&serde_json::to_string_pretty(&json!({ "stages": stages, "remote": transferred }))?)?;
    } else {
        for (name, word) in stages {
            console::print(&format!("{name}: {}", word.as_str().unwrap_or_default()))?;
        }
    }
    let good = transferred["unpushed"] == 0 && stages.values().all(|word| word != "missing" && word != FAILED_TO_PUSH);
    Ok(if good { Exit::Done } else { Exit::Failed })
}

/// Waits for pending uploads, prints what was transferred, and returns it as in `--json`.
pub(super) fn finish(remote: &Remote) -> Value {
    let moved = remote.finish();
    let mut parts = Vec::new();
    if moved.records + moved.files > 0 {
        let (records, files) = (count(moved.records as usize, "record"), count(moved.files as usize, "file"));
        parts.push(format!("fetched {records} and {files} ({})", bytes(moved.bytes)));
    }
    if moved.pushed > 0 {
        parts.push(format!("pushed {}", count(moved.pushed as usize, "stage")));
    }
    if moved.unpushed > 0 {
        parts.push(format!("{} not pushed", count(moved.unpushed as usize, "stage")));
    }
    if !parts.is_empty() {
        console::eprint_line(&format!("{}: {}", remote.url(), parts.join(", ")));
    }
    json!({
        "url": remote.url(),
        "reachable": moved.reachable,
        "read_only": remote.is_read_only(),
        "records": moved.records,
        "files": moved.files,
        "bytes": moved.bytes,
        "pushed": moved.pushed,
        "unpushed": moved.unpushed,
    })
}
