//! `pipe run`.

use std::{collections::BTreeMap, sync::Mutex, time::Instant};

use anyhow::{Result, bail};
use indexmap::IndexMap;
use serde_json::{Map, Value, json};

use super::{
    DONE, FAILED, INTERRUPTED,
    args::Run,
    estimates::Estimates,
    interrupt,
    load::{self, Loaded},
    page, plan,
    progress::{self, count, duration},
    report,
    talk::Talk,
    tracking, transfer,
};
use crate::{
    engine::{
        executor::{Ending, Options, Outcome, Reporter, execute},
        plan::Node,
        store::{DigestCache, Store},
    },
    recipe::suggest,
    stages::{DeviceCheck, Stages, estimate, preflight},
    surface::tracking::Closing,
};

/// `pipe run RECIPE`.
pub(super) fn run(command: &Run, store: &std::path::Path, remote: Option<&str>) -> Result<u8> {
    let began = Instant::now();
    let Loaded { checked, mut graph } = load::load(&command.recipe)?;
    let devices = load::devices(&command.running.place, &checked)?;
    for name in &command.force {
        if graph.get(name).is_none() {
            bail!("--force {name}: {}", graph.no_such_stage(name));
        }
    }
    graph.select(&command.stages)?;
    if let Some(name) = command.force.iter().find(|name| graph.get(name).is_none()) {
        let chosen: Vec<_> = command.stages.iter().map(|stage| format!("--stage {stage}")).collect();
        let needed = suggest::list(graph.nodes().map(|node| node.name.as_str()));
        bail!(
            "--force {name}: `{name}` isn't part of what {} runs, which is {needed}\nhint: add `--stage {name}`",
            chosen.join(" ")
        );
    }
    let store = Store::open(store)?;
    let mut digests = DigestCache::open(store.root());
    let remote = load::remote(remote, &store)?;
    let planned = crate::engine::plan::plan(&graph, &store, remote.as_deref(), &mut digests, &command.force)?;
    DeviceCheck::new(&devices).check(&checked, &graph, &planned)?;
    if command.dry_run {
        let estimates = Estimates::new(&graph, &planned, &devices);
        return plan::print(&planned, &estimates, if command.json { plan::Form::Json } else { plan::Form::Text });
    }
    preflight(&checked, &graph, &planned)?;
    if !command.running.ignore_memory {
        estimate::check(&checked, &graph, &planned, &devices)?;
    }

    let tasks: IndexMap<String, Node> = graph.nodes().map(|node| (node.name.clone(), node.clone())).collect();
    let options = Options {
        jobs: command.running.jobs.into(),
        force: command.force.clone(),
        stop: interrupt::flag(),
        until: BTreeMap::new(),
        remote: remote.clone(),
        provenance: load::provenance(&command.recipe, &checked),
    };
    let settings = graph.nodes().map(|node| (format!("stages.{}", node.name), node.described.clone())).collect();
    let tracking = tracking::start(&command.recipe, &command.running, settings, &store, &options)?;
    let talk = Talk::new();
    talk.expect(tasks.len());
    interrupt::install_for_stages()?;
    let (digests, stages) = (Mutex::new(digests), Stages::new(devices));
    let reporters: Vec<&dyn Reporter> = vec![&talk, &tracking];
    let outcomes = interrupt::during(|| execute(&tasks, &store, &digests, &stages, &reporters, &options));
    talk.end();
    let report = &|| page::page(&command.recipe, &store);
    tracking.finish(&Closing { outcomes: &outcomes, results: None, aim: None, report });

    let report = if command.json { String::new() } else { report::outcomes(&outcomes, remote.as_deref()) };
    let remote = remote.map(|remote| transfer::finish(&remote));
    let seconds = began.elapsed().as_secs_f64();
    if command.json {
        let recipe = command.recipe.recipe.to_string_lossy();
        let stages: Map<String, Value> =
            outcomes.iter().map(|(name, outcome)| (name.clone(), stage_json(outcome))).collect();
        let mut result = json!({ "recipe": recipe, "seconds": seconds, "stages": stages });
        if let Some(remote) = remote {
            result["remote"] = remote;
        }
        progress::put(&serde_json::to_string_pretty(&result)?)?;
    } else {
        progress::put(&report)?;
    }
    progress::say(&summary(&outcomes, seconds));
    say_how_to_go_on(&outcomes);
    Ok(exit_status(&outcomes))
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
        stage["error"] = progress::hushed(error).into();
    }
    stage
}

/// 1 if a stage failed or couldn't run; 130 if nothing failed, but stages were paused or left out by Ctrl-C.
pub(super) fn exit_status(outcomes: &IndexMap<String, Outcome>) -> u8 {
    let any = |ending: Ending| outcomes.values().any(|outcome| outcome.ending == ending);
    match (any(Ending::Failed), any(Ending::Paused) || any(Ending::NotRun)) {
        (true, _) => FAILED,
        (false, true) => INTERRUPTED,
        (false, false) => DONE,
    }
}

/// After a run that was stopped: that nothing is lost.
pub(super) fn say_how_to_go_on(outcomes: &IndexMap<String, Outcome>) {
    if exit_status(outcomes) == INTERRUPTED {
        let command: Vec<_> = std::env::args().skip(1).map(|argument| load::quoted_word(&argument)).collect();
        progress::say(&format!("stopped; the same command goes on from here: pipe {}", command.join(" ")));
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
