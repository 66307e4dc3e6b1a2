//! `pipe push` and `pipe pull`; and what went to and from the remote.

use std::{path::Path, sync::Arc};

use anyhow::{Context, Result};
use serde_json::{Map, Value, json};

use super::{
    DONE, FAILED,
    args::Transfer,
    load::{self, Loaded},
    ls::bytes,
    progress::{self, count},
};
use crate::engine::{
    plan::{Planned, Status, plan},
    remote::Remote,
    store::{DigestCache, Store},
};

/// `pipe push RECIPE`: what other machines lack of what was computed here.
pub(super) fn push(command: &Transfer, store: &Path, remote: Option<&str>) -> Result<u8> {
    let (remote, planned) = planned(command, store, remote)?;
    let mut stages = Map::new();
    for Planned { name, status, .. } in &planned {
        let word = match status {
            Status::Hit(artifact) => {
                remote.push(artifact, false);
                "here"
            }
            Status::Remote(_) => "remote",
            Status::Miss { .. } | Status::Waits(_) => "missing",
        };
        stages.insert(name.clone(), word.into());
    }
    report(command, &remote, &stages)
}

/// `pipe pull RECIPE`: with all files, as if it had been computed here.
pub(super) fn pull(command: &Transfer, store: &Path, remote: Option<&str>) -> Result<u8> {
    let (remote, planned) = planned(command, store, remote)?;
    let mut stages = Map::new();
    for Planned { name, status, .. } in &planned {
        if !command.stages.is_empty() && !command.stages.contains(name) {
            continue;
        }
        let word = match status {
            Status::Hit(_) => "here",
            Status::Remote(artifact) => match load::materialise(&remote, name, artifact) {
                Ok(_) => "fetched",
                Err(error) => {
                    progress::say(&format!("{name}: {}", progress::error_text(&error)));
                    "missing"
                }
            },
            Status::Miss { .. } | Status::Waits(_) => "missing",
        };
        stages.insert(name.clone(), word.into());
    }
    report(command, &remote, &stages)
}

fn planned(command: &Transfer, store: &Path, remote: Option<&str>) -> Result<(Arc<Remote>, Vec<Planned>)> {
    let Loaded { mut graph, .. } = load::load(&command.recipe)?;
    graph.select(&command.stages)?;
    let store = Store::open(store)?;
    let remote = load::remote(remote, &store)?.context("no remote was named\nhint: --remote URL, or PIPE_REMOTE")?;
    let planned = plan(&graph, &store, Some(&remote), &mut DigestCache::open(store.root()), &[])?;
    Ok((remote, planned))
}

/// A stage that is in neither place, or couldn't be brought to the other, is a failure.
fn report(command: &Transfer, remote: &Remote, stages: &Map<String, Value>) -> Result<u8> {
    let transferred = finish(remote);
    if command.json {
        progress::put(&serde_json::to_string_pretty(&json!({ "stages": stages, "remote": transferred }))?)?;
    } else {
        for (name, word) in stages {
            progress::put(&format!("{name}: {}", word.as_str().unwrap_or_default()))?;
        }
    }
    let good = transferred["unpushed"] == 0 && stages.values().all(|word| word != "missing");
    Ok(if good { DONE } else { FAILED })
}

/// Waits for what is being pushed, tells what went over the line, and gives it as `--json` prints it.
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
        progress::say(&format!("{}: {}", remote.url(), parts.join(", ")));
    }
    json!({
        "url": remote.url(),
        "reachable": moved.reachable,
        "records": moved.records,
        "files": moved.files,
        "bytes": moved.bytes,
        "pushed": moved.pushed,
        "unpushed": moved.unpushed,
    })
}
