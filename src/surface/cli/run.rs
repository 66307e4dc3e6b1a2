//! `pipe run`.

use std::time::Instant;

use anyhow::Result;
use indexmap::IndexMap;
use serde_json::{Map, Value, json};

use super::{
    args::{self, Run},
    console::{self, count, duration},
    estimates::Estimates,
    exit::{self, Exit},
    expectations::{Expectations, NO_BASE, found},
    interrupt,
    junit::{self, Suite},
    load::{self, RemoteChoice},
    log, on, page, plan,
    progress::ProgressReporter,
    report, tracking, transfer,
};
use crate::{
    engine::executor::{Ending, Outcome, Reporter},
    session::{Prepared, Recipe, Session, Wanted, log::RunLog},
    support::shell,
    surface::tracking::RunEnd,
};

/// `pipe run RECIPE`.
pub(super) fn run(command: &Run, store: &std::path::Path, remote: Option<RemoteChoice<'_>>) -> Result<Exit> {
    let began = Instant::now();
    let recipe = load::recipe(&command.recipe)?;
    load::warn(&recipe);
    let devices = load::devices(&command.running.device_options, &recipe)?;
    let wanted = Wanted { stages: command.stages.clone(), force: command.force.clone() };
    // Errors of the command line are reported before a store is opened.
    wanted.of(recipe.graph()?)?;
    let on = on::chosen(&command.on, &command.recipe)?;
    let session = load::running_on(&command.running, on, store, remote)?;
    let prepared = session.plan(&recipe, &wanted, devices)?;
    session.check(&prepared)?;
    if command.dry_run {
        let estimates = Estimates::new(&prepared.graph, &prepared.plan, &prepared.devices);
        let form = if command.json { plan::Form::Json } else { plan::Form::Text };
        return plan::print(&prepared.plan, &estimates, form);
    }

    let (outcomes, log) = carried_out("run", &command.recipe, &command.running, &recipe, &session, prepared)?;

    let remote = session.remote();
    let report = if command.json { String::new() } else { report::outcomes(&outcomes, remote.map(|remote| &**remote)) };
    let stages = outcomes.iter().map(|(name, outcome)| (name.as_str(), found(outcome)));
    let expectations = Expectations::judge(&recipe.checked, stages, &|_| Err(NO_BASE), remote.map(|remote| &**remote))?;
    let remote = remote.map(|remote| transfer::finish(remote));
    let seconds = began.elapsed().as_secs_f64();
    if command.json {
        let recipe = command.recipe.recipe.to_string_lossy();
        let stages: Map<String, Value> =
            outcomes.iter().map(|(name, outcome)| (name.clone(), stage_json(outcome))).collect();
        let mut result =
            json!({ "recipe": recipe, "seconds": seconds, "stages": stages, "expectations": expectations.json() });
        if let Some(remote) = remote {
            result["remote"] = remote;
        }
        console::print(&serde_json::to_string_pretty(&result)?)?;
    } else {
        console::print(&report)?;
    }
    console::eprint_line(&summary(&outcomes, seconds));
    expectations.print();
    if command.on.on.is_none() {
        print_how_to_resume(&outcomes);
    }
    if let Some(path) = &command.junit {
        let recipe = command.recipe.recipe.display().to_string();
        junit::write(path, &[Suite { recipe, outcomes: &outcomes, expectations: &expectations }])?;
    }
    let is_left = command.on.detach && on::is_left(&outcomes);
    let exit = expectations.exit(if is_left { Exit::Done } else { Exit::of_stages(&outcomes) });
    log.end(exit.word());
    Ok(exit)
}

/// Carries out what was planned, with progress, trackers and a log, which the caller ends.
///
/// # Errors
/// If nothing can be begun.
pub(super) fn carried_out(
    name: &str,
    arguments: &args::Recipe,
    running: &args::RunOptions,
    recipe: &Recipe,
    session: &Session,
    prepared: Prepared<'_>,
) -> Result<(IndexMap<String, Outcome>, RunLog)> {
    let settings = prepared.graph.nodes().map(|node| (format!("stages.{}", node.name), node.described.clone()));
    let tracking = tracking::start(arguments, running, settings.collect(), recipe, session)?;
    let progress = ProgressReporter::new();
    progress.expect(prepared.plan.len());
    interrupt::install_for_stages()?;
    exit::work_begins();
    let log = log::begin(name, arguments, recipe, session);
    let reporters: Vec<&dyn Reporter> = vec![&progress, &tracking, &log];
    let outcomes = interrupt::during(|| session.execute(prepared, &reporters));
    progress.end();
    let outcomes = outcomes?;
    let report = &|| page::page(recipe, session);
    tracking.finish(&RunEnd { outcomes: &outcomes, results: None, aim: None, report });
    Ok((outcomes, log))
}

/// A stage's outcome as `--json` prints it.
pub(super) fn stage_json(outcome: &Outcome) -> Value {
    let artifact = outcome.artifact.as_ref();
    let mut stage = json!({
        "kind": outcome.kind,
        "key": outcome.key,
        "status": outcome.ending.name(),
        "seconds": outcome.seconds,
        "digest": artifact.map(|artifact| &artifact.digest),
        // What is in the remote alone has no path yet.
        "path": artifact.filter(|artifact| artifact.path.exists()).map(|artifact| artifact.path.to_string_lossy()),
        "metrics": artifact.map(|artifact| artifact.metrics.clone()).unwrap_or_default(),
    });
    if let Some(error) = &outcome.error {
        stage["error"] = console::redact(error).into();
    }
    stage
}

/// After a run that was stopped: that nothing is lost.
pub(super) fn print_how_to_resume(outcomes: &IndexMap<String, Outcome>) {
    if Exit::of_stages(outcomes) == Exit::Interrupted {
        let command: Vec<_> = std::env::args().skip(1).map(|argument| shell::quoted(&argument)).collect();
        console::eprint_line(&format!("stopped; the same command resumes from here: pipe {}", command.join(" ")));
    }
}

/// One line on how it went.
pub(super) fn summary(outcomes: &IndexMap<String, Outcome>, seconds: f64) -> String {
    let number = |ending: Ending| outcomes.values().filter(|outcome| outcome.ending == ending).count();
    let hits = number(Ending::Hit);
    let left = number(Ending::Stopped);
    if hits + left == outcomes.len() {
        let all = if hits == 1 { "the stage is".to_owned() } else { format!("all {hits} stages are") };
        let left = if left > 0 { format!(", {left} left off") } else { String::new() };
        return format!("nothing to do: {all} unchanged{left} ({})", duration(seconds));
    }
    let parts = [
        (Ending::Ran, "ran"),
        (Ending::Hit, "unchanged"),
        (Ending::Paused, "paused"),
        (Ending::Stopped, "left off"),
        (Ending::Fetched, "in the remote"),
        (Ending::Failed, "failed"),
        (Ending::NotRun, "not run"),
    ];
    let parts: Vec<_> = parts
        .into_iter()
        .map(|(ending, word)| (number(ending), word))
        .filter(|(number, _)| *number > 0)
        .map(|(number, word)| format!("{number} {word}"))
        .collect();
    format!("{}: {} in {}", count(outcomes.len(), "stage"), parts.join(", "), duration(seconds))
}
