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
    console::{self, bytes, count, duration},
    exit::{self, Exit},
    load::{self, Loaded, RemoteChoice},
};
use crate::{
    engine::{
        plan::{Plan, Status},
        store::{Artifact, Garbage, GarbageKind, GcPlan, GcVerdict, short},
    },
    session::{Session, sweep::Stored},
};

/// `pipe gc [RECIPE…]`.
pub(super) fn gc(command: &Gc, store: &Path, remote: Option<RemoteChoice<'_>>) -> Result<Exit> {
    let session = load::session(store, remote)?;
    let store = session.store();
    if !store.root().is_dir() {
        console::eprint_line(&format!("there is no store at {}", store.root().display()));
        return Ok(Exit::Done);
    }
    let mut wanted = BTreeMap::new();
    for recipe in &command.recipes {
        let recipe = Recipe { recipe: recipe.clone(), changes: command.changes.clone() };
        reach(&recipe, &session, &mut wanted)
            .with_context(|| format!("{}: nothing was removed", recipe.recipe.display()))?;
    }
    let plan = store.plan_gc(&wanted, command.grace)?;
    if command.delete {
        exit::work_begins();
        store.collect_garbage(&plan)?;
    }
    if command.json {
        console::print(&serde_json::to_string_pretty(&json(&plan, command.delete))?)?;
    } else {
        console::print(&table(&plan))?;
    }
    let going = plan.removable().count();
    let kept = plan.artifacts.len() - going;
    let what = format!("{} and {}", count(going, "artifact"), count(plan.garbage.len(), "remnant"));
    let freed = bytes(plan.freed);
    console::eprint_line(&match command.delete {
        true => format!("removed {what}, {freed}; kept {}", count(kept, "artifact")),
        false => format!("would remove {what}, {freed}, and keep {}; --delete removes them", count(kept, "artifact")),
    });
    Ok(Exit::Done)
}

/// The stored artifacts that a recipe asks for, those of its sweep's cells too.
fn reach(arguments: &Recipe, session: &Session, wanted: &mut BTreeMap<String, String>) -> Result<()> {
    let Loaded { recipe, graph } = load::load(arguments)?;
    let mut want = |name: &str, key: String| {
        let reason = format!("`{name}` of {}", arguments.recipe.display());
        wanted.entry(key).or_insert(reason);
    };
    // Whether its files are damaged will show when it's used.
    let plan = session.everywhere().by_records().plan(&graph)?;
    let mut possible = Possible::new(session);
    possible.add(&plan, &mut want)?;
    if let Some(stored) = Stored::find(session, &recipe)? {
        // Of a cell that was stopped at a rung it must stay known how it did there.
        for (name, outcome) in stored.results.cells.into_iter().flat_map(|cell| cell.stages) {
            outcome.key.into_iter().for_each(|key| want(&name, key));
        }
        possible.add(&stored.plan, &mut want)?;
    }
    session.save();
    if !possible.names.is_empty() {
        let names: Vec<_> = possible.names.into_iter().collect();
        let recipe = arguments.recipe.display();
        console::eprint_line(&format!(
            "{recipe}: what comes before {} isn't stored, so all is kept that may be theirs",
            names.join(", ")
        ));
    }
    Ok(())
}

/// Stages whose keys aren't known, since what comes before them is stored elsewhere or nowhere.
struct Possible<'a> {
    session: &'a Session,
    /// All records, once they're needed.
    records: Option<Vec<Artifact>>,
    names: BTreeSet<String>,
}

impl<'a> Possible<'a> {
    fn new(session: &'a Session) -> Self {
        Self { session, records: None, names: BTreeSet::new() }
    }

    /// Wants what a plan's stages have, or may have: of those whose keys aren't known, all that was made of the same
    /// settings and files.
    fn add(&mut self, plan: &Plan, want: &mut impl FnMut(&str, String)) -> Result<()> {
        for (_, planned) in plan.stages() {
            let name = &planned.node.name;
            match &planned.status {
                Status::Hit(artifact) | Status::Remote(artifact) => want(name, artifact.key.clone()),
                Status::Miss { .. } => {}
                Status::Waits => {
                    let store = self.session.store();
                    if self.records.is_none() {
                        let records = store.keys()?.into_iter().filter_map(|key| store.record(&key).ok().flatten());
                        self.records = Some(records.collect());
                    }
                    let upstream = |id: &str| plan.artifact(id).map(|artifact| artifact.digest.clone());
                    let records = self.records.iter().flatten();
                    let theirs = records.filter(|record| planned.may_be(&record.manifest, &upstream));
                    theirs.for_each(|record| want(name, record.key.clone()));
                    self.names.insert(name.clone());
                }
            }
        }
        Ok(())
    }
}

fn json(plan: &GcPlan, deleted: bool) -> Value {
    let artifact = |verdict: &GcVerdict| {
        let (kind, stage) = verdict.made.clone().unzip();
        json!({
            "key": verdict.key,
            "kind": kind,
            "stage": stage,
            "bytes": verdict.bytes,
            "unused_seconds": verdict.unused.as_secs(),
            "kept": verdict.kept,
        })
    };
    let item = |item: &Garbage| {
        let what = match item.kind {
            GarbageKind::State => "state",
            GarbageKind::HalfWritten => "half-written",
            GarbageKind::Events => "events",
            GarbageKind::Transfer => "transfer",
            GarbageKind::Log => "log",
            GarbageKind::Job => "job",
        };
        json!({ "path": item.path.to_string_lossy(), "bytes": item.bytes, "what": what })
    };
    let (kept, going): (Vec<_>, Vec<_>) = plan.artifacts.iter().partition(|artifact| artifact.kept.is_some());
    json!({
        "deleted": deleted,
        "freed_bytes": plan.freed,
        "remove": going.into_iter().map(artifact).collect::<Vec<_>>(),
        "keep": kept.into_iter().map(artifact).collect::<Vec<_>>(),
        "remnants": plan.garbage.iter().map(item).collect::<Vec<_>>(),
    })
}

fn table(plan: &GcPlan) -> String {
    let mut table = Table::new();
    table.load_style(NOTHING).set_header(["", "key", "kind", "stage", "size", "unused", "why"]);
    for verdict in &plan.artifacts {
        let (kind, stage) = verdict.made.clone().unwrap_or_else(|| ("damaged".into(), String::new()));
        let (action, why) = match &verdict.kept {
            Some(reason) => ("keep", reason.as_str()),
            None => ("remove", "unreferenced"),
        };
        let key = short(&verdict.key).to_owned();
        let unused = duration(verdict.unused.as_secs_f64());
        table.add_row([action.to_owned(), key, kind, stage, bytes(verdict.bytes), unused, why.to_owned()]);
    }
    for item in &plan.garbage {
        let name = item.path.file_name().unwrap_or_default().to_string_lossy();
        let (kind, why) = match item.kind {
            GarbageKind::State => ("tmp", "an old training state"),
            GarbageKind::HalfWritten => ("tmp", "left by a process that has ended"),
            GarbageKind::Events => ("events", "its training isn't stored any more"),
            GarbageKind::Transfer => ("transfer", "left by a transfer that was cut off"),
            GarbageKind::Log => ("log", "what a run did, long ago"),
            GarbageKind::Job => ("job", "what jobs of a cluster were given, long ago"),
        };
        let key = name.chars().take(12).collect();
        let row = ["remove".to_owned(), key, kind.into(), String::new(), bytes(item.bytes), String::new(), why.into()];
        table.add_row(row);
    }
    for column in [4, 5] {
        if let Some(column) = table.column_mut(column) {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
    table.to_string()
}
