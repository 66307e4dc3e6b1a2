//! `pipe sweep`.

use std::{collections::BTreeMap, sync::Mutex, time::Instant};

use anyhow::{Result, bail};
use comfy_table::{CellAlignment, Table, presets::NOTHING};
use indexmap::IndexMap;
use serde_json::{Map, Value, json};

use super::{
    DONE, args, load,
    progress::{self, Talk, count},
    report::figure,
    run::{exit_status, stage_json, summary},
    transfer,
};
use crate::{
    estimate,
    executor::{Ending, Options, Outcome, execute},
    plan::{Cell, Graph, SweepPlan},
    recipe::{Document, Overrides, spec},
    stages::{DataCheck, Stages},
    store::{DigestCache, Store},
};

/// `pipe sweep RECIPE`.
pub(super) fn sweep(command: &args::Sweep, store: &std::path::Path, remote: Option<&str>) -> Result<u8> {
    let began = Instant::now();
    let document = Document::read(&command.recipe.recipe)?;
    let base = load::overrides(&command.recipe);
    let checked = load::check(&document, &base)?;
    let device = load::device(command.running.device.as_deref(), &checked)?;
    let Some(sweep) = &checked.recipe.sweep else {
        bail!("{} has no `sweep` section", command.recipe.recipe.display());
    };

    // Everything is planned before anything runs, so a mistake in the last cell is found now.
    let mut plan = SweepPlan::default();
    let mut data = DataCheck::default();
    // Mistakes as they're shown, with the cells that have them.
    let mut mistakes: IndexMap<String, Vec<String>> = IndexMap::new();
    for overrides in cells(sweep) {
        let mut sets = base.sets.clone();
        sets.extend(overrides.iter().map(|(path, value)| (path.clone(), value.to_string())));
        let graph = || -> Result<Graph> {
            let cell = load::check(&document, &Overrides { vars: base.vars.clone(), sets })?;
            let graph = Graph::new(&cell)?;
            data.check(&cell, graph.nodes())?;
            if !command.running.ignore_memory {
                estimate::check(&cell, &graph, &[], device)?;
            }
            Ok(graph)
        };
        match graph() {
            Ok(graph) => plan.add(overrides, &graph),
            Err(error) => mistakes.entry(progress::error_text(&error)).or_default().push(settings(&overrides)),
        }
    }
    if !mistakes.is_empty() {
        let (line, _) = checked.place("sweep.grid");
        let place = format!("{}:{line}", checked.path.display());
        for (mistake, cells) in &mistakes {
            let which = if cells.len() == 1 { "cell" } else { "cells" };
            progress::say(&format!("in the {which} {} of {place}:\n{mistake}", cells.join(" and ")));
        }
        let bad = mistakes.values().map(Vec::len).sum();
        bail!("{} of the sweep can't run, so nothing was run", count(bad, "cell"));
    }
    if command.dry_run {
        return dry_run(&plan, command.json);
    }

    let store = Store::open(store)?;
    let digests = Mutex::new(DigestCache::open(store.root()));
    let remote = load::remote(remote, &store)?;
    let options = Options {
        jobs: command.running.jobs.into(),
        force: Vec::new(),
        remote: remote.clone(),
        provenance: load::provenance(&command.recipe, &checked),
    };
    let outcomes = execute(&plan.tasks, &store, &digests, &Stages::new(device), &Talk::new(), &options);
    let remote = remote.map(|remote| transfer::finish(&remote));
    let seconds = began.elapsed().as_secs_f64();

    let results = results(&plan, &outcomes, sweep);
    if command.json {
        let cells: Vec<Value> = results.iter().map(CellResult::json).collect();
        let result = json!({ "cells": cells, "computed": computed(&outcomes), "seconds": seconds, "remote": remote });
        progress::put(&serde_json::to_string_pretty(&result)?)?;
    } else {
        progress::put(&table(&results, sweep))?;
    }
    progress::say(&format!("{}; {}", count(plan.cells.len(), "cell"), summary(&outcomes, seconds)));
    Ok(exit_status(&outcomes))
}

/// All combinations of the grid's values; the last path varies fastest.
fn cells(sweep: &spec::Sweep) -> Vec<IndexMap<String, Value>> {
    let mut cells = vec![IndexMap::new()];
    for (path, values) in &sweep.grid {
        cells = cells
            .into_iter()
            .flat_map(|cell| {
                values.iter().map(move |value| {
                    let mut cell = cell.clone();
                    cell.insert(path.clone(), value.clone());
                    cell
                })
            })
            .collect();
    }
    cells
}

struct CellResult<'a> {
    cell: &'a Cell,
    good: bool,
    objective: Option<f64>,
    stages: IndexMap<&'a str, Outcome>,
}

impl CellResult<'_> {
    fn json(&self) -> Value {
        let stages: Map<_, _> =
            self.stages.iter().map(|(name, outcome)| ((*name).to_owned(), stage_json(outcome))).collect();
        json!({
            "overrides": self.cell.overrides,
            "status": if self.good { "done" } else { "failed" },
            "objective": self.objective,
            "stages": stages,
        })
    }
}

/// The cells with what became of their stages, best first. A stage that several cells share counts as computed in the
/// first of them only.
fn results<'a>(plan: &'a SweepPlan, outcomes: &IndexMap<String, Outcome>, sweep: &spec::Sweep) -> Vec<CellResult<'a>> {
    let mut seen = std::collections::BTreeSet::new();
    let mut results = Vec::new();
    for cell in &plan.cells {
        let mut stages = IndexMap::new();
        for (name, id) in &cell.tasks {
            let Some(outcome) = outcomes.get(id) else { continue };
            let mut outcome = outcome.clone();
            if !seen.insert(id) && outcome.ending == Ending::Ran {
                outcome.ending = Ending::Hit;
                outcome.seconds = 0.0;
            }
            stages.insert(name.as_str(), outcome);
        }
        let good = stages.values().all(|outcome| outcome.ending.is_good());
        let path = sweep.maximize.as_ref().or(sweep.minimize.as_ref());
        let objective = path.and_then(|path| metric(&stages, path));
        results.push(CellResult { cell, good, objective, stages });
    }
    let sign = if sweep.minimize.is_some() { 1.0 } else { -1.0 };
    results.sort_by(|a, b| {
        let rank = |result: &CellResult<'_>| result.objective.map_or(f64::INFINITY, |value| sign * value);
        rank(a).total_cmp(&rank(b))
    });
    results
}

/// The metric at `stages.NAME.metrics.METRIC`.
fn metric(stages: &IndexMap<&str, Outcome>, path: &str) -> Option<f64> {
    let mut parts = path.split('.').skip(1);
    let stage = stages.get(parts.next()?)?;
    let mut value = stage.artifact.as_ref()?.metrics.get(parts.nth(1)?)?;
    for part in parts {
        value = value.get(part)?;
    }
    value.as_f64()
}

/// How many stages of each kind were computed.
fn computed(outcomes: &IndexMap<String, Outcome>) -> BTreeMap<&str, usize> {
    let mut computed = BTreeMap::new();
    for outcome in outcomes.values() {
        *computed.entry(outcome.kind).or_insert(0) += usize::from(outcome.ending == Ending::Ran);
    }
    computed
}

fn table(results: &[CellResult<'_>], sweep: &spec::Sweep) -> String {
    let objective = sweep.maximize.as_ref().or(sweep.minimize.as_ref());
    let mut table = Table::new();
    table.load_style(NOTHING);
    let mut header: Vec<&str> = vec![""];
    header.extend(sweep.grid.keys().map(|path| path.strip_prefix("stages.").unwrap_or(path)));
    header.extend(objective.map(|path| path.strip_prefix("stages.").unwrap_or(path)));
    header.push("status");
    table.set_header(header);
    for (rank, result) in results.iter().enumerate() {
        let best = rank == 0 && result.objective.is_some();
        let mut row = vec![if best { "best".to_owned() } else { String::new() }];
        row.extend(result.cell.overrides.values().map(plain));
        if objective.is_some() {
            row.push(result.objective.map_or_else(|| "–".into(), |value| figure(&value.into())));
        }
        row.push(if result.good { "done" } else { "failed" }.to_owned());
        table.add_row(row);
    }
    for column in table.column_iter_mut().skip(1) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    table.to_string()
}

fn settings(overrides: &IndexMap<String, Value>) -> String {
    let settings: Vec<_> = overrides.iter().map(|(path, value)| format!("{path}={}", plain(value))).collect();
    settings.join("  ")
}

fn plain(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

fn dry_run(plan: &SweepPlan, json: bool) -> Result<u8> {
    let mut distinct: BTreeMap<&str, usize> = BTreeMap::new();
    for task in plan.tasks.values() {
        *distinct.entry(task.stage.kind()).or_insert(0) += 1;
    }
    if json {
        let cells: Vec<_> = plan.cells.iter().map(|cell| &cell.overrides).collect();
        progress::put(&serde_json::to_string_pretty(&json!({ "cells": cells, "distinct": distinct }))?)?;
        return Ok(DONE);
    }
    for cell in &plan.cells {
        progress::put(&settings(&cell.overrides))?;
    }
    let counts: Vec<_> = distinct.iter().map(|(kind, count)| format!("{count} {kind}")).collect();
    progress::say(&format!("{}; distinct stages: {}", count(plan.cells.len(), "cell"), counts.join(", ")));
    Ok(DONE)
}
