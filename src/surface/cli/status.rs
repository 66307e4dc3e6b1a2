//! `pipe status`.

use std::{collections::BTreeMap, path::Path, sync::Arc};

use anyhow::Result;
use comfy_table::{Table, presets::NOTHING};
use indexmap::IndexMap;
use serde_json::{Map, Value, json};

use super::{args::Status, console, exit::Exit, on, run::stage_json};
use crate::{
    engine::executor::{Ending, Outcome, Reporter},
    session::{
        Notify,
        cluster::{self, ENGINES, RunFolder},
    },
    support::clock::date,
};

/// `pipe status`: the runs of a store, or the stages of one. The engine is asked for one run only.
pub(super) fn status(command: &Status, store: &Path) -> Result<Exit> {
    let session = on::session(&command.place, store)?;
    let folders = match &command.run {
        Some(run) => vec![RunFolder::find(session.store(), Some(run))?],
        None => RunFolder::all(session.store())?,
    };
    if folders.is_empty() && !command.json {
        console::eprint_line("no run of this store is on a cluster");
        return Ok(Exit::Done);
    }
    let mut table = Table::new();
    table.load_style(NOTHING).set_header(["run", "recipe", "on", "began", "stages"]);
    let mut list = Vec::new();
    let notify: Notify = Arc::new(console::eprint_line);
    let nobody: Vec<&dyn Reporter> = Vec::new();
    for folder in &folders {
        let mut follower = cluster::attach(folder, session.store(), &ENGINES, &nobody, &notify)?;
        follower.look_at_store()?;
        let outcomes = follower.outcomes();
        let counts = counts(&outcomes);
        let jobs = command.run.as_ref().map(|_| follower.counts());
        let plan = follower.plan();
        if command.json {
            let mut run = json!({
                "run": folder.name(),
                "recipe": plan.recipe,
                "on": plan.on,
                "engine": plan.profile.engine,
                "host": plan.host,
                "begun": plan.begun,
                "cancelled": folder.is_cancelled(),
                "counts": counts,
            });
            if let Some(jobs) = jobs {
                run["jobs"] =
                    jobs.map_or(Value::Null, |(waiting, running)| json!({ "running": running, "waiting": waiting }));
                let stages = outcomes.iter().map(|(id, outcome)| (id.clone(), stage_json(outcome)));
                run["stages"] = stages.collect::<Map<_, _>>().into();
            }
            list.push(run);
            continue;
        }
        let counts: Vec<String> = counts.into_iter().map(|(word, count)| format!("{count} {word}")).collect();
        table.add_row([folder.name(), plan.recipe.clone(), plan.on.clone(), date(plan.begun), counts.join(", ")]);
        if let Some(jobs) = jobs {
            match jobs {
                Some((waiting, running)) => console::eprint_line(&format!("{running} jobs run, and {waiting} wait")),
                None => console::eprint_line("the engine doesn't answer"),
            }
            console::print(&stages(&outcomes))?;
        }
    }
    let text = if command.json { serde_json::to_string_pretty(&list)? } else { table.trim_fmt() };
    console::print(&text)?;
    Ok(Exit::Done)
}

/// How many stages there are by what has become of them.
fn counts(outcomes: &IndexMap<String, Outcome>) -> BTreeMap<&str, usize> {
    let mut counts = BTreeMap::new();
    for outcome in outcomes.values() {
        let word = match outcome.ending {
            Ending::Paused => outcome.error.as_deref().unwrap_or("paused"),
            ending => ending.name(),
        };
        *counts.entry(word).or_default() += 1;
    }
    counts
}

/// The stages of a run, a line each.
fn stages(outcomes: &IndexMap<String, Outcome>) -> String {
    let mut table = Table::new();
    table.load_style(NOTHING).set_header(["stage", "kind", "", ""]);
    for (id, outcome) in outcomes {
        let told = outcome.error.as_deref().unwrap_or_default().lines().next().unwrap_or_default();
        table.add_row([id.as_str(), &outcome.kind, outcome.ending.name(), told]);
    }
    table.trim_fmt()
}
