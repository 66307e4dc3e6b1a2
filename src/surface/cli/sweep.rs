//! `pipe sweep`.

use std::{collections::BTreeMap, path::Path, sync::Mutex, time::Instant};

use anyhow::{Context, Result, anyhow, bail};
use indexmap::IndexMap;
use serde_json::json;

use super::{
    DONE, FAILED, args, interrupt, load, page,
    progress::{self, count, duration},
    run::{exit_status, say_how_to_go_on, summary},
    sweep_report,
    sweep_run::{Outcomes, Sweeping},
    sweep_rungs::{self, Rungs},
    tracking, transfer,
};
use crate::{
    engine::{
        executor::{Ending, Options},
        plan::Node,
        remote::Remote,
        store::{DigestCache, Store},
    },
    recipe::{Checked, Condition, Document},
    session::sweep::{
        Cell, Cost, Halving, Mistakes, Planner, Results, Space, look_back, lookup, write_csv, write_parquet,
    },
    stages::{Stages, catalog},
    surface::tracking::Closing,
};

/// How many cells with the same mistake are named.
const NAMED: usize = 4;

/// `pipe sweep RECIPE`.
pub(super) fn sweep(command: &args::Sweep, store: &Path, remote: Option<&str>) -> Result<u8> {
    let began = Instant::now();
    let document = Document::read(&command.recipe.recipe, catalog())?;
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
    if let Err(mistakes) = planner.add(&first) {
        say_refused(&mistakes, &first, &checked);
        bail!("{} of the sweep can't run, so nothing was run", count(mistakes.cells(), "cell"));
    }
    let halving = Halving::new(&checked);
    let store = Store::open(store)?;
    let mut digests = DigestCache::open(store.root());
    let rungs = rungs(halving.as_ref(), &planner, &checked)?;
    let remote = load::remote(remote, &store)?;
    let cost = cost(halving.as_ref(), &planner, &store, remote.as_deref(), &mut digests)?;
    let more = space.to_come();
    if command.dry_run {
        return dry_run(&planner, &cost, more, rungs.as_ref(), command.json);
    }
    progress::say(&outlook(&planner, &cost, more, rungs.as_ref()));

    let digests = Mutex::new(digests);
    let options = Options {
        jobs: command.running.jobs.into(),
        force: Vec::new(),
        stop: interrupt::flag(),
        until: BTreeMap::new(),
        remote: remote.clone(),
        provenance: load::provenance(&command.recipe, &checked),
    };
    let tracking = tracking::start(&command.recipe, &command.running, Vec::new(), &store, &options)?;
    interrupt::install_for_stages()?;
    let stages = Stages::new(devices);
    let sweeping = Sweeping::new(&store, &digests, &stages, &tracking, &options);
    let mut outcomes = IndexMap::new();
    let mut judgement = None;
    let mut left_out = 0;
    let results = interrupt::during(|| -> Result<_> {
        if let Some(halving) = &halving {
            let judged = judgement.insert(sweeping.climb(halving, &planner, &mut outcomes)?);
            return Ok(Results::new(planner.cells(), &outcomes, space.sweep(), Some((halving, judged))));
        }
        loop {
            sweeping.run(&planner, &mut outcomes);
            let results = Results::new(planner.cells(), &outcomes, space.sweep(), None);
            if interrupt::asked() {
                break Ok(results);
            }
            space.tell(&results);
            let next = chosen.of(space.next(&checked)?, planner.cells().len())?;
            if next.is_empty() {
                break Ok(results);
            }
            // Only a search has more cells after the first; what it draws amiss mustn't end it.
            if let Err(mistakes) = planner.add(&next) {
                say_refused(&mistakes, &next, &checked);
                left_out += mistakes.cells();
            }
        }
    })?;
    sweeping.end();
    let report = &|| page::page(&command.recipe, &store);
    let aim = space.sweep().aim().map(|(path, _)| path);
    tracking.finish(&Closing { outcomes: &outcomes, results: Some(&results), aim, report });
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
        if let (Some(rungs), Some(judgement)) = (&rungs, &judgement) {
            value["asha"] = rungs.outcome(judgement);
        }
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
    if let Some(judgement) = &judgement {
        progress::say(&format!("trained {}", sweep_rungs::share(judgement.steps)));
    }
    if left_out > 0 {
        progress::say(&format!("{} that the search drew can't run, for the reasons above", count(left_out, "cell")));
    }
    progress::say(&format!("{}; {}", count(planner.cells().len(), "cell"), summary(&outcomes, seconds)));
    say_how_to_go_on(&outcomes);
    Ok(if left_out > 0 { FAILED } else { exit_status(&outcomes) })
}

/// The rungs of a sweep with `asha`.
fn rungs(halving: Option<&Halving>, planner: &Planner<'_>, checked: &Checked) -> Result<Option<Rungs>> {
    let asha = checked.recipe.sweep.as_ref().and_then(|sweep| sweep.asha.as_ref());
    halving.zip(asha).map(|(halving, asha)| Rungs::new(halving, asha, planner, checked)).transpose()
}

/// What there is to compute, without cells of which it's known that they were stopped.
fn cost(
    halving: Option<&Halving>,
    planner: &Planner<'_>,
    store: &Store,
    remote: Option<&Remote>,
    digests: &mut DigestCache,
) -> Result<Cost> {
    let Some(halving) = halving else { return Cost::of(planner.tasks(), store, remote, digests) };
    let judgement = look_back(halving, planner, store, &lookup(planner.tasks(), store, digests)?);
    let going_on = judgement.going_on(planner.cells());
    let mut tasks = planner.tasks().clone();
    tasks.retain(|id, _| going_on.contains(id.as_str()));
    Cost::of(&tasks, store, remote, digests)
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

    /// Of these cells those that are wanted, when there are some already: as many as there may be, but all seeds of a
    /// setting or none, and one setting at least.
    fn of(&self, cells: Vec<Cell>, before: usize) -> Result<Vec<Cell>> {
        let mut groups: BTreeMap<usize, Vec<Cell>> = BTreeMap::new();
        for cell in cells {
            if self.wants(&cell)? {
                groups.entry(cell.group).or_default().push(cell);
            }
        }
        let mut kept = Vec::new();
        for group in groups.into_values() {
            let count = before + kept.len();
            if count + group.len() > self.most && count > 0 {
                break;
            }
            kept.extend(group);
        }
        if kept.is_empty() && before == 0 {
            bail!("no cell of the sweep is left");
        }
        Ok(kept)
    }

    /// Whether all conditions hold.
    fn wants(&self, cell: &Cell) -> Result<bool> {
        let mut wanted = true;
        for condition in &self.conditions {
            let unknown = condition.paths().into_iter().find(|path| !cell.settings.contains_key(path));
            if let Some(path) = unknown.filter(|_| cell.number == 1) {
                let paths: Vec<_> = cell.settings.keys().map(String::as_str).collect();
                bail!("--filter {}: no setting `{path}`; there is {}", condition.text(), paths.join(", "));
            }
            let holds = condition.holds(cell.values());
            wanted &= holds.map_err(|reason| anyhow!("--filter {}: {reason}", condition.text()))?;
        }
        Ok(wanted)
    }
}

/// Says what is wrong with which cells.
fn say_refused(mistakes: &Mistakes, cells: &[Cell], checked: &Checked) {
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
}

/// How many stages of each kind were computed.
fn computed(outcomes: &Outcomes) -> BTreeMap<&str, usize> {
    let mut computed = BTreeMap::new();
    for outcome in outcomes.values() {
        *computed.entry(outcome.kind).or_insert(0) += usize::from(outcome.ending == Ending::Ran);
    }
    computed
}

/// What the sweep is going to do, in a line.
fn outlook(planner: &Planner<'_>, cost: &Cost, more: usize, rungs: Option<&Rungs>) -> String {
    let counts = |counts: &BTreeMap<&str, usize>| -> String {
        counts.iter().map(|(kind, count)| format!("{count} {kind}")).collect::<Vec<_>>().join(", ")
    };
    let (cells, tasks) = (planner.cells().len(), planner.tasks());
    let mut text = format!("{}; distinct stages: {}", count(cells, "cell"), counts(&distinct(tasks)));
    if more > 0 {
        text.push_str(&format!("; up to {} to come", count(more, "more cell")));
    }
    if cost.to_compute() == 0 {
        return text + "; all stored";
    }
    let most = if rungs.is_some() { "at most " } else { "" };
    text.push_str(&format!("; to compute: {most}{}", counts(&cost.missing)));
    match (cost.seconds > 0.0, cost.unknown) {
        (true, 0) => text.push_str(&format!(", about {}", duration(cost.seconds))),
        (true, unknown) => text.push_str(&format!(
            ", about {} and {} that nothing is known of",
            duration(cost.seconds),
            count(unknown, "stage")
        )),
        (false, _) => {}
    }
    if let Some(rungs) = rungs {
        text.push_str(&format!("\n{}", rungs.text()));
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

fn dry_run(planner: &Planner<'_>, cost: &Cost, more: usize, rungs: Option<&Rungs>, json: bool) -> Result<u8> {
    let (cells, tasks) = (planner.cells(), planner.tasks());
    if json {
        let list: Vec<IndexMap<_, _>> = cells.iter().map(|planned| planned.cell.values().collect()).collect();
        let mut value = json!({
            "cells": list,
            "distinct": distinct(tasks),
            "stored": cost.stored,
            "to_compute": cost.missing,
            "estimated_seconds": cost.seconds,
            "not_estimated": cost.unknown,
            "further_cells": more,
        });
        if let Some(rungs) = rungs {
            value["asha"] = rungs.json();
        }
        progress::put(&serde_json::to_string_pretty(&value).context("the plan is JSON")?)?;
        return Ok(DONE);
    }
    for planned in cells {
        progress::put(&sweep_report::settings(planned.cell.values()))?;
    }
    progress::say(&outlook(planner, cost, more, rungs));
    Ok(DONE)
}
