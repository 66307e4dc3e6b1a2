//! `pipe status`.

use std::{collections::BTreeMap, path::Path, sync::Arc};

use anyhow::Result;
use comfy_table::{Table, presets::NOTHING};

use super::{args::Status, console, exit::Exit, on};
use crate::{
    engine::executor::{Ending, Reporter},
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
    if folders.is_empty() {
        console::eprint_line("no run of this store is on a cluster");
        return Ok(Exit::Done);
    }
    let mut table = Table::new();
    table.load_style(NOTHING).set_header(["run", "recipe", "on", "began", "stages"]);
    let notify: Notify = Arc::new(console::eprint_line);
    let nobody: Vec<&dyn Reporter> = Vec::new();
    for folder in &folders {
        let mut follower = cluster::attach(folder, session.store(), &ENGINES, &nobody, &notify)?;
        follower.look_at_store()?;
        let outcomes = follower.outcomes();
        let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
        for outcome in outcomes.values() {
            let word = match outcome.ending {
                Ending::Paused => outcome.error.as_deref().unwrap_or("paused"),
                ending => ending.name(),
            };
            *counts.entry(word).or_default() += 1;
        }
        let counts: Vec<String> = counts.into_iter().map(|(word, count)| format!("{count} {word}")).collect();
        let plan = follower.plan();
        table.add_row([folder.name(), plan.recipe.clone(), plan.on.clone(), date(plan.begun), counts.join(", ")]);
        if command.run.is_some() {
            match follower.counts() {
                Some((waiting, running)) => console::eprint_line(&format!("{running} jobs run, and {waiting} wait")),
                None => console::eprint_line("the engine doesn't answer"),
            }
            let mut stages = Table::new();
            stages.load_style(NOTHING).set_header(["stage", "kind", "", ""]);
            for (id, outcome) in &outcomes {
                let told = outcome.error.as_deref().unwrap_or_default().lines().next().unwrap_or_default();
                stages.add_row([id.as_str(), &outcome.kind, outcome.ending.name(), told]);
            }
            console::print(&stages.trim_fmt())?;
        }
    }
    console::print(&table.trim_fmt())?;
    Ok(Exit::Done)
}
