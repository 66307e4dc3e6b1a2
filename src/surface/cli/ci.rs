//! `pipe ci`: runs what changed, compares it with the base, and says whether it's as expected.

use std::{io::Write, path::Path, time::Instant};

use anyhow::{Context, Result};
use fs_err as fs;
use indexmap::IndexMap;
use serde_json::{Map, Value, json};

use super::{
    args,
    ci_summary::{self, Compared, Ran},
    comparison::Pair,
    console::{self, count, duration},
    exit::Exit,
    expectations::{Expectations, NO_RESULT},
    forge,
    junit::{self, Suite},
    load::{self, RemoteChoice},
    plan::reason,
    run::{carried_out, stage_json},
    transfer,
};
use crate::{
    engine::{
        executor::{Ending, Outcome},
        store::Artifact,
    },
    session::{
        Recipe, Session, Wanted,
        base::{Base, InBase, check_pointers},
        log::RunLog,
    },
};

/// Where GitHub shows the summary of a job's step.
const STEP_SUMMARY: &str = "GITHUB_STEP_SUMMARY";

/// How often rows are drawn for intervals, and from which seed.
const SAMPLING: (u64, u64) = (10_000, 0);

/// `pipe ci RECIPE…`.
pub(super) fn ci(command: &args::Ci, store: &Path, remote: Option<RemoteChoice<'_>>) -> Result<Exit> {
    let began = Instant::now();
    let arguments: Vec<args::Recipe> = command.recipes.iter().map(|recipe| named(recipe, command)).collect();
    for recipe in &arguments {
        check_pointers(&recipe.recipe, &load::overrides(recipe))?;
    }
    let recipes: Vec<Recipe> = arguments.iter().map(load::recipe).collect::<Result<_>>()?;
    recipes.iter().for_each(load::warn);
    let revision = command.base.clone().unwrap_or_else(forge::base);
    let base = Base::open(command.recipes.first().context("clap wants a recipe")?, &revision)?;
    let session = load::running(&command.running, store, remote)?;
    // What is wrong with one of them is found before another one has run for hours.
    for recipe in &recipes {
        session.check(&session.plan(recipe, &Wanted::default(), devices(command, recipe)?)?)?;
    }

    let (mut ran, mut logs) = (Vec::new(), Vec::new());
    for (arguments, recipe) in arguments.iter().zip(&recipes) {
        let in_base = in_base(&base, recipe, &session)?;
        let (done, log) = one(arguments, command, recipe, in_base, &session)?;
        ran.push(done);
        logs.push(log);
    }
    let remote = session.remote().map(|remote| &**remote);
    let mut compared = Vec::new();
    for (recipe, ran) in recipes.iter().zip(&ran) {
        compared.push(compare(recipe, ran, &session)?);
    }
    for (compared, log) in compared.iter().zip(&logs) {
        log.end(exit(compared, command.strict).word());
    }
    let transferred = remote.map(transfer::finish);

    let summary = ci_summary::markdown(&base, &compared, command.strict);
    let summary = console::redact(&summary);
    if let Some(path) = &command.summary {
        fs::write(path, &summary)?;
    }
    if let Some(path) = std::env::var_os(STEP_SUMMARY).filter(|path| !path.is_empty()) {
        let mut file = fs::OpenOptions::new().append(true).create(true).open(std::path::PathBuf::from(path))?;
        file.write_all(summary.as_bytes())?;
    }
    if let Some(path) = &command.junit {
        let suites: Vec<Suite<'_>> = compared.iter().map(suite).collect();
        junit::write(path, &suites)?;
    }
    let exit = compared.iter().map(|compared| exit(compared, command.strict)).max_by_key(|exit| gravity(*exit));
    let exit = exit.unwrap_or(Exit::Done);
    if command.json {
        let recipes: Vec<Value> = compared.iter().map(|compared| one_json(compared, command.strict)).collect();
        let result = json!({
            "base": { "revision": base.revision, "commit": base.commit },
            "seconds": began.elapsed().as_secs_f64(),
            "status": exit.status(),
            "recipes": recipes,
            "remote": transferred,
        });
        console::print(&serde_json::to_string_pretty(&result)?)?;
    } else {
        console::print(&summary)?;
    }
    compared.iter().for_each(|compared| compared.expectations.print());
    let (stages, seconds) = (ran.iter().map(|ran| ran.outcomes.len()).sum(), began.elapsed().as_secs_f64());
    console::eprint_line(&format!("{} in {}", count(stages, "stage"), duration(seconds)));
    Ok(exit)
}

fn named(recipe: &Path, command: &args::Ci) -> args::Recipe {
    args::Recipe { recipe: recipe.to_owned(), changes: command.changes.clone() }
}

fn devices(command: &args::Ci, recipe: &Recipe) -> Result<crate::network::device::DeviceChoices> {
    load::devices(&command.running.device_options, recipe)
}

/// What the base has of a recipe's results.
fn in_base(base: &Base, recipe: &Recipe, session: &Session) -> Result<ci_summary::InBase> {
    let found = match base.recipe(&recipe.checked.path, &recipe.overrides)? {
        InBase::Nothing => return Ok(ci_summary::InBase::nothing("the base has no such recipe")),
        InBase::Unusable(reason) => return Ok(ci_summary::InBase::nothing(&reason)),
        InBase::There(found) => found,
    };
    console::register_secrets(&found.recipe.checked);
    let plan = session.everywhere().plan(&found.recipe.graph()?)?;
    let stored =
        plan.stages().filter_map(|(name, planned)| Some((name.to_owned(), planned.status.artifact()?.clone())));
    let artifacts: IndexMap<String, Artifact> = stored.collect();
    let known = plan.stages().map(|(name, _)| name.to_owned()).collect();
    Ok(ci_summary::InBase { artifacts, known, nothing: None, unchanged: found.unchanged })
}

/// Runs one recipe.
fn one(
    arguments: &args::Recipe,
    command: &args::Ci,
    recipe: &Recipe,
    in_base: ci_summary::InBase,
    session: &Session,
) -> Result<(Ran, RunLog)> {
    // Those before it may have computed stages that it has, too.
    let prepared = session.plan(recipe, &Wanted::default(), devices(command, recipe)?)?;
    let reasons = prepared.plan.stages().map(|(name, planned)| (name.to_owned(), reason(planned))).collect();
    let (outcomes, log) = carried_out("ci", arguments, &command.running, recipe, session, prepared)?;
    let name = arguments.recipe.display().to_string();
    Ok((Ran { name, outcomes, reasons, in_base }, log))
}

/// Holds what came out against the base, and against what is expected. Of the remote only predictions are read, of
/// evaluations whose results differ.
fn compare<'a>(recipe: &'a Recipe, ran: &'a Ran, session: &Session) -> Result<Compared<'a>> {
    let remote = session.remote().map(|remote| &**remote);
    let mut pairs = IndexMap::new();
    for (name, outcome) in &ran.outcomes {
        if let (Some(here), Some(there)) = (&outcome.artifact, ran.in_base.artifacts.get(name))
            && here.manifest.kind == there.manifest.kind
            && here.key != there.key
        {
            pairs.insert(name.as_str(), Pair::without_curves(name, there, here, remote, SAMPLING)?);
        }
    }
    let stages = ran.outcomes.iter().map(|(name, outcome)| (name.as_str(), outcome.artifact.as_ref().ok_or(NO_RESULT)));
    let expectations = Expectations::judge(&recipe.checked, stages, &|stage| ran.in_base.found(stage), remote)?;
    Ok(Compared { ran, pairs, expectations })
}

fn suite<'a>(compared: &'a Compared<'a>) -> Suite<'a> {
    let Compared { ran, expectations, .. } = compared;
    Suite { recipe: ran.name.clone(), outcomes: &ran.outcomes, expectations }
}

fn exit(compared: &Compared<'_>, strict: bool) -> Exit {
    let exit = compared.expectations.exit(Exit::of_stages(&compared.ran.outcomes));
    let unjudged = compared.expectations.list().iter().any(|judged| judged.not_judged().is_some());
    if exit == Exit::Done && strict && unjudged { Exit::Broken } else { exit }
}

/// Of several recipes the gravest status counts.
fn gravity(exit: Exit) -> u8 {
    match exit {
        Exit::Done => 0,
        Exit::Broken => 1,
        Exit::Again | Exit::Interrupted => 2,
        Exit::Wrong | Exit::Failed | Exit::Panicked => 3,
    }
}

fn one_json(compared: &Compared<'_>, strict: bool) -> Value {
    let Compared { ran, pairs, expectations } = compared;
    let stage = |(name, outcome): (&String, &Outcome)| {
        let mut stage = stage_json(outcome);
        stage["reason"] = match outcome.ending {
            Ending::Hit | Ending::Fetched => Value::Null,
            _ => ran.reasons.get(name).map(|reason| console::redact(reason)).into(),
        };
        stage["base_key"] = ran.in_base.artifacts.get(name).map(|artifact| artifact.key.clone()).into();
        (name.clone(), stage)
    };
    let stages: Map<String, Value> = ran.outcomes.iter().map(stage).collect();
    let (spent, saved) = ran.seconds();
    json!({
        "recipe": ran.name,
        "status": exit(compared, strict).status(),
        "stages": stages,
        "compared": pairs.values().map(Pair::json).collect::<Vec<_>>(),
        "no_base": ran.in_base.nothing,
        "taken_as_unchanged": ran.in_base.unchanged.iter().map(|one| json!({ "path": one.path, "why": one.why })).collect::<Vec<_>>(),
        "expectations": expectations.json(),
        "computed_seconds": spent,
        "saved_seconds": saved,
    })
}
