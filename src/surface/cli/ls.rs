//! `pipe ls`.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::Result;
use comfy_table::{CellAlignment, Table, presets::NOTHING};
use serde_json::{Value, json};

use super::{
    args::Ls,
    console::{self, bytes, count, duration},
    exit::Exit,
    load::{self, RemoteChoice},
};
use crate::engine::store::{Artifact, short};

/// `pipe ls`: newest first, or the largest stages first.
pub(super) fn ls(command: &Ls, store: &std::path::Path, remote: Option<RemoteChoice<'_>>) -> Result<Exit> {
    let session = load::session(store, remote)?;
    let store = session.store();
    let mut artifacts = store.list()?;
    let unreadable = store.keys()?.len().saturating_sub(artifacts.len());
    if unreadable > 0 {
        console::eprint_line(&format!(
            "{} left out; `pipe verify` names what's wrong",
            count(unreadable, "damaged artifact")
        ));
    }
    let here: BTreeSet<String> = artifacts.iter().map(|artifact| artifact.key.clone()).collect();
    let is_here = |artifact: &Artifact| here.contains(&artifact.key);
    if let Some(remote) = session.remote() {
        artifacts.extend(remote.list().into_iter().filter(|artifact| !is_here(artifact)));
        artifacts.sort_by(|a, b| b.provenance.started.total_cmp(&a.provenance.started).then_with(|| a.key.cmp(&b.key)));
    }
    if command.by_stage {
        return by_stage(&artifacts, command.json);
    }
    if command.json {
        let list: Vec<Value> = artifacts
            .iter()
            .map(|artifact| {
                json!({
                    "key": artifact.key,
                    "kind": artifact.manifest.kind,
                    "stage": artifact.provenance.stage,
                    "bytes": artifact.bytes(),
                    "seconds": artifact.provenance.seconds,
                    "started": artifact.provenance.started,
                    "digest": artifact.digest,
                    // What is in the remote alone has no path yet.
                    "path": is_here(artifact).then(|| artifact.path.to_string_lossy()),
                })
            })
            .collect();
        console::print(&serde_json::to_string_pretty(&list)?)?;
        return Ok(Exit::Done);
    }
    let mut table = Table::new();
    let place = session.remote().map(|_| "");
    table.load_style(NOTHING).set_header(["key", "kind", "stage", "size", "took"].into_iter().chain(place));
    for artifact in &artifacts {
        let provenance = &artifact.provenance;
        let row = [
            short(&artifact.key).to_owned(),
            artifact.manifest.kind.clone(),
            provenance.stage.clone(),
            bytes(artifact.bytes()),
            duration(provenance.seconds),
        ];
        let place = session.remote().map(|_| if is_here(artifact) { "" } else { "in the remote" }.to_owned());
        table.add_row(row.into_iter().chain(place));
    }
    if let Some(column) = table.column_mut(3) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    console::print(&table.to_string())?;
    let total = artifacts.iter().map(Artifact::bytes).sum();
    console::eprint_line(&format!("{}, {}", count(artifacts.len(), "artifact"), bytes(total)));
    Ok(Exit::Done)
}

/// What the artifacts of each stage take, by its name and kind.
fn by_stage(artifacts: &[Artifact], json: bool) -> Result<Exit> {
    let mut stages: BTreeMap<(&str, &str), (usize, u64)> = BTreeMap::new();
    for artifact in artifacts {
        let stage = stages.entry((&artifact.provenance.stage, &artifact.manifest.kind)).or_default();
        *stage = (stage.0 + 1, stage.1 + artifact.bytes());
    }
    let mut stages: Vec<_> = stages.into_iter().collect();
    stages.sort_by_key(|(_, (_, bytes))| std::cmp::Reverse(*bytes));
    if json {
        let stage = |((stage, kind), (artifacts, bytes)): &((&str, &str), (usize, u64))| json!({ "stage": stage, "kind": kind, "artifacts": artifacts, "bytes": bytes });
        console::print(&serde_json::to_string_pretty(&stages.iter().map(stage).collect::<Vec<_>>())?)?;
        return Ok(Exit::Done);
    }
    let mut table = Table::new();
    table.load_style(NOTHING).set_header(["stage", "kind", "artifacts", "size"]);
    for ((stage, kind), (artifacts, size)) in stages {
        table.add_row([stage.to_owned(), kind.to_owned(), artifacts.to_string(), bytes(size)]);
    }
    for column in table.column_iter_mut().skip(2) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    console::print(&table.to_string())?;
    Ok(Exit::Done)
}
