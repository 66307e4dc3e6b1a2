//! `pipe sweep`.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    time::Instant,
};

use anyhow::{Context, Result, bail};
use indexmap::IndexMap;
use serde_json::json;

use super::{
    args,
    console::{self, count, duration},
    exit::{self, Exit},
    interrupt,
    load::{self, RemoteChoice},
    log, on, page,
    progress::ProgressReporter,
    run::{print_how_to_resume, summary},
    sweep_report, sweep_rungs, tracking, transfer,
};
use crate::{
    engine::{
        executor::{Ending, Event, Reporter},
        plan::Node,
    },
    recipe::Checked,
    session::{
        log::RunLog,
        sweep::{
            Cell, Cost, Mistakes, Outcomes, Planner, RungDecision, Rungs, Selection, Sweep, SweepObserver, write_csv,
            write_parquet,
        },
    },
    surface::tracking::{RunEnd, Tracking},
};

/// How many cells with the same mistake are named.
const NAMED: usize = 4;

/// `pipe sweep RECIPE`.
pub(super) fn sweep(command: &args::Sweep, store: &Path, remote: Option<RemoteChoice<'_>>) -> Result<Exit> {
    let began = Instant::now();
    let recipe = load::recipe(&command.recipe)?;
    load::warn(&recipe);
    let checked = &recipe.checked;
    let devices = load::devices(&command.running.device_options, &recipe)?;
    let most = command.max_cells.map(|most| usize::try_from(most).unwrap_or(usize::MAX));
    let selection = Selection::new(most, &command.filter)?;
    let on = on::chosen(&command.on, &command.recipe)?;
    let session = load::running_on(&command.running, on, store, remote)?;
    let Some(mut sweep) = Sweep::new(&session, &recipe, devices, selection)? else {
        bail!("{} has no `sweep` section", command.recipe.recipe.display());
    };

    // Everything that's known is planned before anything runs, so a mistake in the last cell is found now.
    let (first, mistakes) = sweep.plan_next()?;
    if !mistakes.is_empty() {
        print_refused(&mistakes, &first, checked);
        bail!("{} of the sweep can't run, so nothing was run", count(mistakes.cells(), "cell"));
    }
    let rungs = sweep.rungs()?;
    let cost = sweep.cost()?;
    let more = sweep.space().to_come();
    if command.dry_run {
        return dry_run(sweep.planner(), &cost, more, rungs.as_ref(), command.json);
    }
    for path in command.csv.iter().chain(&command.parquet) {
        ensure_writable(path)?;
    }
    console::eprint_line(&overview(sweep.planner(), &cost, more, rungs.as_ref()));

    let tracking = tracking::start(&command.recipe, &command.running, Vec::new(), &recipe, &session)?;
    interrupt::install_for_stages()?;
    exit::work_begins();
    let log = log::begin("sweep", &command.recipe, &recipe, &session);
    let reporter = SweepReporter { progress: ProgressReporter::new(), tracking: &tracking, log: &log, checked };
    let swept = interrupt::during(|| sweep.run(&reporter))?;
    reporter.progress.end();
    let (outcomes, results) = (&swept.outcomes, &swept.results);
    let report = &|| page::page(&recipe, &session);
    let aim = sweep.space().sweep().aim().map(|(path, _)| path);
    tracking.finish(&RunEnd { outcomes, results: Some(results), aim, report });
    let remote = session.remote().map(|remote| transfer::finish(remote));
    let seconds = began.elapsed().as_secs_f64();

    // A failure to write files mustn't suppress the rest of the output.
    let written = command.csv.iter().try_for_each(|path| write_csv(path, results));
    let written = command.parquet.iter().try_for_each(|path| write_parquet(path, results)).and(written);
    if command.json {
        let mut value = sweep_report::json(results, sweep.space().sweep());
        value["computed"] = json!(computed(outcomes));
        value["seconds"] = json!(seconds);
        if let (Some(rungs), Some(promotions)) = (&rungs, &swept.promotions) {
            value["asha"] = sweep_rungs::outcome(rungs, promotions);
        }
        if let Some(remote) = remote {
            value["remote"] = remote;
        }
        console::print(&serde_json::to_string_pretty(&value)?)?;
    } else {
        console::print(&sweep_report::table(results, sweep.space().sweep()))?;
    }
    if let Some(failures) = sweep_report::failures(results) {
        console::eprint_line(&failures);
    }
    if let Some(promotions) = &swept.promotions {
        console::eprint_line(&format!("trained {}", sweep_rungs::share(promotions.steps)));
    }
    let left_out = swept.left_out;
    if left_out > 0 {
        console::eprint_line(&format!(
            "{} that the search drew can't run, for the reasons above",
            count(left_out, "cell")
        ));
    }
    console::eprint_line(&format!("{}; {}", count(sweep.planner().cells().len(), "cell"), summary(outcomes, seconds)));
    if command.on.on.is_none() {
        print_how_to_resume(outcomes);
    }
    written?;
    let exit = match Exit::of_stages(outcomes) {
        _ if left_out > 0 => Exit::Failed,
        _ if command.on.detach && on::is_left(outcomes) => Exit::Done,
        exit => exit,
    };
    log.end(exit.word());
    Ok(exit)
}

/// Sees that a file can be written before anything runs.
///
/// # Errors
/// If it can't.
fn ensure_writable(path: &PathBuf) -> Result<()> {
    let exists = path.exists();
    let opened = fs_err::OpenOptions::new().append(true).create(true).open(path);
    opened.context("the results can't be written, so nothing was run")?;
    if !exists {
        fs_err::remove_file(path)?;
    }
    Ok(())
}

/// Reports the progress of a sweep.
struct SweepReporter<'a> {
    progress: ProgressReporter,
    tracking: &'a Tracking,
    log: &'a RunLog,
    checked: &'a Checked,
}

impl Reporter for SweepReporter<'_> {
    fn event(&self, stage: &str, event: Event<'_>) {
        self.progress.event(stage, event);
        self.tracking.event(stage, event);
        self.log.event(stage, event);
    }
}

impl SweepObserver for SweepReporter<'_> {
    fn planned(&self, tasks: usize) {
        self.progress.expect(tasks);
    }

    fn refused(&self, mistakes: &Mistakes, cells: &[Cell]) {
        print_refused(mistakes, cells, self.checked);
    }

    fn decided(&self, RungDecision { number, of, rung, compared, promoted }: RungDecision) {
        let (part, settings) = (rung.part, count(compared, "setting"));
        console::eprint_line(&format!(
            "rung {number} of {of}, at 1/{part} of the steps: {promoted} of {settings} promoted"
        ));
    }
}

/// Prints what is wrong with which cells.
fn print_refused(mistakes: &Mistakes, cells: &[Cell], checked: &Checked) {
    let place = format!("{}:{}", checked.path.display(), checked.place("sweep").0);
    for (mistake, numbers) in &mistakes.0 {
        let named = cells.iter().filter(|cell| numbers.contains(&cell.number)).take(NAMED);
        let mut names: Vec<String> = named.map(|cell| sweep_report::settings(cell.values())).collect();
        if numbers.len() > NAMED {
            names.push(format!("{} more", numbers.len() - NAMED));
        }
        let which = if numbers.len() == 1 { "cell" } else { "cells" };
        console::eprint_line(&format!(
            "in the {which} {} of {place}:\n{}",
            names.join(" and "),
            console::error_text(mistake)
        ));
    }
}

/// How many stages of each kind were computed.
fn computed(outcomes: &Outcomes) -> BTreeMap<&str, usize> {
    let mut computed = BTreeMap::new();
    for outcome in outcomes.values() {
        *computed.entry(outcome.kind.as_str()).or_insert(0) += usize::from(outcome.ending == Ending::Ran);
    }
    computed
}

/// What the sweep is going to do, in a line.
fn overview(planner: &Planner<'_>, cost: &Cost, more: usize, rungs: Option<&Rungs>) -> String {
    let counts = |counts: &mut dyn Iterator<Item = (&str, usize)>| -> String {
        counts.map(|(kind, count)| format!("{count} {kind}")).collect::<Vec<_>>().join(", ")
    };
    let (cells, tasks) = (planner.cells().len(), planner.tasks());
    let mut text = format!("{}; distinct stages: {}", count(cells, "cell"), counts(&mut distinct(tasks).into_iter()));
    if more > 0 {
        text.push_str(&format!("; up to {} to come", count(more, "more cell")));
    }
    if cost.to_compute() == 0 {
        return text + "; all stored";
    }
    let mut missing = cost.missing.iter().map(|(kind, count)| (kind.as_str(), *count));
    let most = if rungs.is_some() { "at most " } else { "" };
    text.push_str(&format!("; to compute: {most}{}", counts(&mut missing)));
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
        text.push_str(&format!("\n{}", sweep_rungs::text(rungs)));
    }
    text
}

fn distinct(tasks: &IndexMap<String, Node>) -> BTreeMap<&str, usize> {
    let mut distinct = BTreeMap::new();
    for task in tasks.values() {
        *distinct.entry(task.kind.as_str()).or_insert(0) += 1;
    }
    distinct
}

fn dry_run(planner: &Planner<'_>, cost: &Cost, more: usize, rungs: Option<&Rungs>, json: bool) -> Result<Exit> {
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
            value["asha"] = sweep_rungs::json(rungs);
        }
        console::print(&serde_json::to_string_pretty(&value).context("the plan is JSON")?)?;
        return Ok(Exit::Done);
    }
    for planned in cells {
        console::print(&sweep_report::settings(planned.cell.values()))?;
    }
    console::eprint_line(&overview(planner, cost, more, rungs));
    Ok(Exit::Done)
}
