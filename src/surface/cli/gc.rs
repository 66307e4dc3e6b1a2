//! `pipe gc`.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::Path,
};

use anyhow::{Context, Result};
use comfy_table::{CellAlignment, Table, presets::NOTHING};
use serde_json::{Value, json};

use super::{
    args::{Gc, Recipe},
    console::{self, count, duration},
    exit::{self, DONE},
    load::{self, Loaded},
    ls::bytes,
};
use crate::{
    engine::{
        executor::Ending,
        plan::Status,
        store::{Collection, Judged, Remnant, RemnantKind, short},
    },
    session::{Session, sweep::Stored},
};

/// `pipe gc [RECIPE…]`.
pub(super) fn gc(command: &Gc, store: &Path) -> Result<u8> {
    let session = load::session(store, None)?;
    let store = session.store();
    if !store.root().is_dir() {
        console::eprint_line(&format!("there is no store at {}", store.root().display()));
        return Ok(DONE);
    }
    let mut wanted = BTreeMap::new();
    for recipe in &command.recipes {
        let recipe = Recipe { recipe: recipe.clone(), changes: command.changes.clone() };
        reach(&recipe, &session, &mut wanted)
            .with_context(|| format!("{}: nothing was removed", recipe.recipe.display()))?;
    }
    let collection = store.judge(&wanted, command.grace)?;
    if command.delete {
        exit::work_begins();
        store.clear(&collection)?;
    }
    if command.json {
        console::print(&serde_json::to_string_pretty(&json(&collection, command.delete))?)?;
    } else {
        console::print(&table(&collection))?;
    }
    let going = collection.going().count();
    let kept = collection.artifacts.len() - going;
    let what = format!("{} and {}", count(going, "artifact"), count(collection.remnants.len(), "remnant"));
    let freed = bytes(collection.freed);
    console::eprint_line(&match command.delete {
        true => format!("removed {what}, {freed}; kept {}", count(kept, "artifact")),
        false => format!("would remove {what}, {freed}, and keep {}; --delete removes them", count(kept, "artifact")),
    });
    Ok(DONE)
}

/// The stored artifacts that a recipe asks for, those of its sweep's cells too.
fn reach(arguments: &Recipe, session: &Session, wanted: &mut BTreeMap<String, String>) -> Result<()> {
    let Loaded { recipe, graph } = load::load(arguments)?;
    let mut waiting = BTreeSet::new();
    let mut want = |name: &str, key: String| {
        let reason = format!("`{name}` of {}", arguments.recipe.display());
        wanted.entry(key).or_insert(reason);
    };
    // Whether its files are damaged will show when it's used.
    for (name, planned) in session.in_store().by_records().plan(&graph)?.stages() {
        match &planned.status {
            Status::Hit(artifact) | Status::Remote(artifact) => want(name, artifact.key.clone()),
            Status::Miss { .. } => {}
            Status::Waits => drop(waiting.insert(name.to_owned())),
        }
    }
    if let Some(stored) = Stored::find(session, &recipe)? {
        for (name, outcome) in stored.results.cells.into_iter().flat_map(|cell| cell.stages) {
            // Of a cell that was stopped at a rung it must stay known how it did there.
            match outcome.key {
                Some(key) => want(&name, key),
                None if outcome.ending == Ending::Stopped => {}
                None => drop(waiting.insert(name)),
            }
        }
    }
    session.save();
    if !waiting.is_empty() {
        let names: Vec<_> = waiting.into_iter().collect();
        let recipe = arguments.recipe.display();
        console::eprint_line(&format!(
            "{recipe}: what comes before {} isn't stored, so they keep nothing",
            names.join(", ")
        ));
    }
    Ok(())
}

fn json(collection: &Collection, deleted: bool) -> Value {
    let artifact = |judged: &Judged| {
        let (kind, stage) = judged.made.clone().unzip();
        json!({
            "key": judged.key,
            "kind": kind,
            "stage": stage,
            "bytes": judged.bytes,
            "unused_seconds": judged.unused.as_secs(),
            "kept": judged.kept,
        })
    };
    let remnant = |remnant: &Remnant| {
        let what = match remnant.kind {
            RemnantKind::State => "state",
            RemnantKind::HalfWritten => "half-written",
            RemnantKind::Events => "events",
        };
        json!({ "path": remnant.path.to_string_lossy(), "bytes": remnant.bytes, "what": what })
    };
    let (kept, going): (Vec<_>, Vec<_>) = collection.artifacts.iter().partition(|artifact| artifact.kept.is_some());
    json!({
        "deleted": deleted,
        "freed_bytes": collection.freed,
        "remove": going.into_iter().map(artifact).collect::<Vec<_>>(),
        "keep": kept.into_iter().map(artifact).collect::<Vec<_>>(),
        "remnants": collection.remnants.iter().map(remnant).collect::<Vec<_>>(),
    })
}

fn table(collection: &Collection) -> String {
    let mut table = Table::new();
    table.load_style(NOTHING).set_header(["", "key", "kind", "stage", "size", "unused", "why"]);
    for judged in &collection.artifacts {
        let (kind, stage) = judged.made.clone().unwrap_or_else(|| ("damaged".into(), String::new()));
        let (plan, why) = match &judged.kept {
            Some(reason) => ("keep", reason.as_str()),
            None => ("remove", "nothing asks for it"),
        };
        let key = short(&judged.key).to_owned();
        let unused = duration(judged.unused.as_secs_f64());
        table.add_row([plan.to_owned(), key, kind, stage, bytes(judged.bytes), unused, why.to_owned()]);
    }
    for remnant in &collection.remnants {
        let name = remnant.path.file_name().unwrap_or_default().to_string_lossy();
        let (kind, why) = match remnant.kind {
            RemnantKind::State => ("tmp", "an old training state"),
            RemnantKind::HalfWritten => ("tmp", "left by a process that has ended"),
            RemnantKind::Events => ("events", "its training isn't stored any more"),
        };
        let key = name.chars().take(12).collect();
        let row =
            ["remove".to_owned(), key, kind.into(), String::new(), bytes(remnant.bytes), String::new(), why.into()];
        table.add_row(row);
    }
    for column in [4, 5] {
        if let Some(column) = table.column_mut(column) {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
    table.to_string()
}
