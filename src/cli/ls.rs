//! `pipe ls`.

use anyhow::Result;
use comfy_table::{CellAlignment, Table, presets::NOTHING};
use serde_json::{Value, json};

use super::{
    DONE,
    args::Ls,
    progress::{self, duration},
};
use crate::store::Store;

/// `pipe ls`: newest first.
pub(super) fn ls(command: &Ls, store: &std::path::Path) -> Result<u8> {
    let artifacts = Store::open(store)?.list()?;
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
                    "path": artifact.path.to_string_lossy(),
                })
            })
            .collect();
        progress::put(&serde_json::to_string_pretty(&list)?)?;
        return Ok(DONE);
    }
    let mut table = Table::new();
    table.load_style(NOTHING).set_header(["key", "kind", "stage", "size", "took"]);
    for artifact in &artifacts {
        let provenance = &artifact.provenance;
        table.add_row([
            artifact.key[..12].to_owned(),
            artifact.manifest.kind.clone(),
            provenance.stage.clone(),
            bytes(artifact.bytes()),
            duration(provenance.seconds),
        ]);
    }
    if let Some(column) = table.column_mut(3) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    progress::put(&table.to_string())?;
    let total = artifacts.iter().map(crate::store::Artifact::bytes).sum();
    progress::say(&format!("{}, {}", progress::count(artifacts.len(), "artifact"), bytes(total)));
    Ok(DONE)
}

/// A size as a person reads it.
pub(super) fn bytes(bytes: u64) -> String {
    match bytes {
        b if b < 1000 => format!("{b} B"),
        b if b < 1_000_000 => format!("{:.1} kB", b as f64 / 1e3),
        b if b < 1_000_000_000 => format!("{:.1} MB", b as f64 / 1e6),
        b => format!("{:.1} GB", b as f64 / 1e9),
    }
}
