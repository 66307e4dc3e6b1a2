//! `pipe sweep`.

use std::{
    collections::{BTreeMap, HashSet},
    path::Path,
    sync::{Mutex, PoisonError},
    time::Instant,
};

use anyhow::{Context, Result, anyhow, bail};
use indexmap::IndexMap;
use serde_json::json;

use super::{
    DONE, args, interrupt, load,
    progress::{self, Talk, count, duration},
    run::{exit_status, say_how_to_go_on, summary},
    sweep_report, transfer,
};
use crate::{
    executor::{Ending, Event, Options, Outcome, Reporter, execute},
    plan::Node,
    recipe::{Checked, Condition, Document},
    stages::Stages,
    store::{DigestCache, Store},
    sweep::{Cell, Cost, Mistakes, Planner, Results, Space, write_csv, write_parquet},
};

/// How many cells with the same mistake are named.
const NAMED: usize = 4;

/// `pipe sweep RECIPE`.
pub(super) fn sweep(command: &args::Sweep, store: &Path, remote: Option<&str>) -> Result<u8> {
    let began = Instant::now();
    let document = Document::read(&command.recipe.recipe)?;
    let base = load::overrides(&command.recipe);
    let checked = load::check(&document, &base)?;
    let devices = load::devices(&command.running.place, &checked)?;
    let Some(mut space) = Space::new(&checked)? else {
        bail!("{} has no `sweep` section", command.recipe.recipe.display());
    };
    let chosen = Chosen::new(command)?;

    // Everything that's known is planned before anything runs, so a mistake in the last cell is found now.
    let fits = !command.running.ignore_memory;
    let mut planner = Planner::new(&document, &base, &load::columns).on_devices(&devices, fits);
    let first = chosen.of(space.next(&checked)?, planner.cells().len())?;
    planner.add(&first).map_err(|mistakes| refused(&mistakes, &first, &checked))?;
    let store = Store::open(store)?;
    let mut digests = DigestCache::open(store.root());
    let cost = Cost::of(planner.tasks(), &store, &mut digests)?;
    let more = space.to_come();
    if command.dry_run {
        return dry_run(&planner, &cost, more, command.json);
    }
    progress::say(&outlook(planner.cells().len(), planner.tasks(), &cost, more));

    let digests = Mutex::new(digests);
    let remote = load::remote(remote, &store)?;
    let options = Options {
        jobs: command.running.jobs.into(),
        force: Vec::new(),
        stop: interrupt::flag(),
        until: BTreeMap::new(),
        remote: remote.clone(),
        provenance: load::provenance(&command.recipe, &checked),
    };
    interrupt::install_for_stages()?;
    let (stages, talk) = (Stages::new(devices), Talk::new());
    let quiet = Quiet { talk: &talk, told: Mutex::default() };
    let mut outcomes = IndexMap::new();
    let results = interrupt::during(|| -> Result<_> {
        loop {
            let tasks = unsettled(planner.tasks(), &outcomes);
            for (id, outcome) in execute(&tasks, &store, &digests, &stages, &quiet, &options) {
                outcomes.entry(id).or_insert(outcome);
            }
            let results = Results::new(planner.cells(), &outcomes, space.sweep());
            if interrupt::asked() {
                break Ok(results);
            }
            space.tell(&results);
            let next = chosen.of(space.next(&checked)?, planner.cells().len())?;
            if next.is_empty() {
                break Ok(results);
            }
            planner.add(&next).map_err(|mistakes| refused(&mistakes, &next, &checked))?;
        }
    })?;
    let remote = remote.map(|remote| transfer::finish(&remote));
    let seconds = began.elapsed().as_secs_f64();

    if let Some(path) = &command.csv {
        write_csv(path, &results)?;
    }
    if let Some(path) = &command.parquet {
        write_parquet(path, &results)?;
    }
    if command.json {
        let mut value = sweep_report::json(&results, space.sweep());
        value["computed"] = json!(computed(&outcomes));
        value["seconds"] = json!(seconds);
        if let Some(remote) = remote {
            value["remote"] = remote;
        }
        progress::put(&serde_json::to_string_pretty(&value)?)?;
    } else {
        progress::put(&sweep_report::table(&results, space.sweep()))?;
    }
    if let Some(failures) = sweep_report::failures(&results) {
        progress::say(&failures);
    }
    progress::say(&format!("{}; {}", count(planner.cells().len(), "cell"), summary(&outcomes, seconds)));
    say_how_to_go_on(&outcomes);
    Ok(exit_status(&outcomes))
}

/// The cells that the command line wants.
struct Chosen {
    most: usize,
    conditions: Vec<Condition>,
}

impl Chosen {
    fn new(command: &args::Sweep) -> Result<Self> {
        let condition = |text: &String| Condition::new(text).map_err(|reason| anyhow!("--filter {text}: {reason}"));
        let most = command.max_cells.map_or(usize::MAX, |most| usize::try_from(most).unwrap_or(usize::MAX));
        Ok(Self { most, conditions: command.filter.iter().map(condition).collect::<Result<_>>()? })
    }

    /// Of these cells those that are wanted, when there are some already.
    fn of(&self, cells: Vec<Cell>, before: usize) -> Result<Vec<Cell>> {
        let mut kept = Vec::new();
        for cell in cells {
            let mut wanted = before + kept.len() < self.most;
            for condition in &self.conditions {
                let unknown = condition.paths().into_iter().find(|path| !cell.settings.contains_key(path));
                if let Some(path) = unknown.filter(|_| cell.number == 1) {
                    let paths: Vec<_> = cell.settings.keys().map(String::as_str).collect();
                    bail!("--filter {}: no setting `{path}`; there is {}", condition.text(), paths.join(", "));
                }
                let holds = condition.holds(cell.values());
                wanted &= holds.map_err(|reason| anyhow!("--filter {}: {reason}", condition.text()))?;
            }
            if wanted {
                kept.push(cell);
            }
        }
        if kept.is_empty() && before == 0 {
            bail!("no cell of the sweep is left");
        }
        Ok(kept)
    }
}

/// Says what is wrong with which cells.
fn refused(mistakes: &Mistakes, cells: &[Cell], checked: &Checked) -> anyhow::Error {
    let place = format!("{}:{}", checked.path.display(), checked.place("sweep").0);
    for (mistake, numbers) in &mistakes.0 {
        let named = cells.iter().filter(|cell| numbers.contains(&cell.number)).take(NAMED);
        let mut names: Vec<String> = named.map(|cell| sweep_report::settings(cell.values())).collect();
        if numbers.len() > NAMED {
            names.push(format!("{} more", numbers.len() - NAMED));
        }
        let which = if numbers.len() == 1 { "cell" } else { "cells" };
        progress::say(&format!(
            "in the {which} {} of {place}:\n{}",
            names.join(" and "),
            progress::error_text(mistake)
        ));
    }
    anyhow!("{} of the sweep can't run, so nothing was run", count(mistakes.cells(), "cell"))
}

/// The tasks that nothing is known of yet, and those that they need.
fn unsettled(tasks: &IndexMap<String, Node>, outcomes: &IndexMap<String, Outcome>) -> IndexMap<String, Node> {
    let mut wanted: HashSet<&str> = HashSet::new();
    for (id, node) in tasks.iter().rev() {
        if wanted.contains(id.as_str()) || !outcomes.contains_key(id) {
            wanted.insert(id);
            wanted.extend(node.needs.values().map(String::as_str));
        }
    }
    let wanted = tasks.iter().filter(|(id, _)| wanted.contains(id.as_str()));
    wanted.map(|(id, node)| (id.clone(), node.clone())).collect()
}

/// Says once only that a stage is unchanged.
struct Quiet<'a> {
    talk: &'a Talk,
    told: Mutex<HashSet<String>>,
}

impl Reporter for Quiet<'_> {
    fn event(&self, stage: &str, event: Event<'_>) {
        let ends = matches!(event, Event::Hit { .. } | Event::InRemote { .. } | Event::Finished { .. });
        let is_new = !ends || self.told.lock().unwrap_or_else(PoisonError::into_inner).insert(stage.to_owned());
        if is_new {
            self.talk.event(stage, event);
        }
    }
}

/// How many stages of each kind were computed.
fn computed(outcomes: &IndexMap<String, Outcome>) -> BTreeMap<&str, usize> {
    let mut computed = BTreeMap::new();
    for outcome in outcomes.values() {
        *computed.entry(outcome.kind).or_insert(0) += usize::from(outcome.ending == Ending::Ran);
    }
    computed
}

/// What the sweep is going to do, in a line.
fn outlook(cells: usize, tasks: &IndexMap<String, Node>, cost: &Cost, more: usize) -> String {
    let counts = |counts: &BTreeMap<&str, usize>| -> String {
        counts.iter().map(|(kind, count)| format!("{count} {kind}")).collect::<Vec<_>>().join(", ")
    };
    let mut text = format!("{}; distinct stages: {}", count(cells, "cell"), counts(&distinct(tasks)));
    if more > 0 {
        text.push_str(&format!("; up to {} to come", count(more, "more cell")));
    }
    if cost.to_compute() == 0 {
        return text + "; all stored";
    }
    text.push_str(&format!("; to compute: {}", counts(&cost.missing)));
    match (cost.seconds > 0.0, cost.unknown) {
        (true, 0) => text.push_str(&format!(", about {}", duration(cost.seconds))),
        (true, unknown) => text.push_str(&format!(
            ", about {} and {} that nothing is known of",
            duration(cost.seconds),
            count(unknown, "stage")
        )),
        (false, _) => {}
    }
    text
}

fn distinct(tasks: &IndexMap<String, Node>) -> BTreeMap<&str, usize> {
    let mut distinct = BTreeMap::new();
    for task in tasks.values() {
        *distinct.entry(task.stage.kind()).or_insert(0) += 1;
    }
    distinct
}

fn dry_run(planner: &Planner<'_>, cost: &Cost, more: usize, json: bool) -> Result<u8> {
    let (cells, tasks) = (planner.cells(), planner.tasks());
    if json {
        let list: Vec<IndexMap<_, _>> = cells.iter().map(|planned| planned.cell.values().collect()).collect();
        let value = json!({
            "cells": list,
            "distinct": distinct(tasks),
            "stored": cost.stored,
            "to_compute": cost.missing,
            "estimated_seconds": cost.seconds,
            "not_estimated": cost.unknown,
            "further_cells": more,
        });
        progress::put(&serde_json::to_string_pretty(&value).context("the plan is JSON")?)?;
        return Ok(DONE);
    }
    for planned in cells {
        progress::put(&sweep_report::settings(planned.cell.values()))?;
    }
    progress::say(&outlook(cells.len(), tasks, cost, more));
    Ok(DONE)
}
