//! `pipe log`.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

use anyhow::{Context, Result, bail, ensure};
use comfy_table::{CellAlignment, Table, presets::NOTHING};
use serde_json::{Map, Value, json};

use super::{
    args::{self, Log},
    console::{self, duration},
    exit::Exit,
    load::{self, RemoteChoice},
};
use crate::{
    session::{
        Recipe, Session,
        log::{Begun, FORMAT, RunFile, RunLog, StageRun, Summary, runs},
    },
    support::clock::date,
};

/// The word for the run that was begun last.
const LAST: &str = "last";

/// `pipe log`: the runs, or one of them.
pub(super) fn log(command: &Log, store: &Path, remote: Option<RemoteChoice<'_>>) -> Result<Exit> {
    let session = load::session(store, remote)?;
    let files = runs(session.store())?;
    let wanted = command.run.as_deref().or_else(|| command.critical_path.then_some(LAST));
    let Some(wanted) = wanted else { return list(command, &files) };
    let run = RunFile::read(find(&files, wanted)?)?;
    let summary = Summary::of(&run.lines);
    if let Some(begun) = summary.begun.as_ref().filter(|begun| begun.format > FORMAT) {
        console::eprint_line(&format!("note: pipe {} wrote this, and may tell more than is shown", begun.pipe));
    }
    let text = match (command.json, command.critical_path) {
        (true, _) => serde_json::to_string_pretty(&one_json(&run, &summary))?,
        (false, true) => path_text(&summary),
        (false, false) => text(&run, &summary),
    };
    console::print(&text)?;
    Ok(Exit::Done)
}

/// The log of a run that begins.
pub(super) fn begin(command: &str, arguments: &args::Recipe, recipe: &Recipe, session: &Session) -> RunLog {
    let begun = Begun::here(command, &arguments.recipe.display().to_string(), &recipe.provenance());
    let begun = Begun { overrides: begun.overrides.iter().map(|flag| console::redact(flag)).collect(), ..begun };
    RunLog::begin(session.store(), begun, Arc::new(console::redact), Arc::clone(&session.options().notify))
}

/// The run of this name, or of one that begins or ends so.
fn find<'a>(files: &'a [PathBuf], wanted: &str) -> Result<&'a PathBuf> {
    ensure!(!files.is_empty(), "no run is logged in this store");
    if wanted == LAST {
        return files.first().context("there are runs");
    }
    let name = |file: &Path| file.file_stem().unwrap_or_default().to_string_lossy().into_owned();
    if let Some(exact) = files.iter().find(|file| name(file) == wanted) {
        return Ok(exact);
    }
    let found: Vec<&PathBuf> = files.iter().filter(|file| name(file).starts_with(wanted)).collect();
    match found.as_slice() {
        [one] => Ok(one),
        [] => bail!("no run's name begins with `{wanted}`; `pipe log` lists them"),
        several => bail!("the names of {} runs begin with `{wanted}`; give more of it", several.len()),
    }
}

fn list(command: &Log, files: &[PathBuf]) -> Result<Exit> {
    let read: Vec<RunFile> =
        files.iter().take(command.number).map(|file| RunFile::read(file)).collect::<Result<_>>()?;
    let summaries: Vec<(&RunFile, Summary)> = read.iter().map(|run| (run, Summary::of(&run.lines))).collect();
    if command.json {
        let list: Vec<Value> = summaries.iter().map(|(run, summary)| one_json(run, summary)).collect();
        console::print(&serde_json::to_string_pretty(&list)?)?;
        return Ok(Exit::Done);
    }
    if summaries.is_empty() {
        console::eprint_line("no run is logged in this store");
        return Ok(Exit::Done);
    }
    let mut table = Table::new();
    table.load_style(NOTHING).set_header(["run", "recipe", "ended", "stages", "ran", "failed", "time", "saved"]);
    for (run, summary) in &summaries {
        let number = |ending: &str| summary.count(ending).to_string();
        table.add_row([
            run.id.clone(),
            summary.begun.as_ref().map(|begun| begun.recipe.clone()).unwrap_or_default(),
            ended(summary).to_owned(),
            summary.stages.len().to_string(),
            number("ran"),
            number("failed"),
            duration(summary.seconds),
            duration(summary.saved()),
        ]);
    }
    for column in 3..8 {
        if let Some(column) = table.column_mut(column) {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
    console::print(&table.trim_fmt())?;
    Ok(Exit::Done)
}

fn ended(summary: &Summary) -> &str {
    summary.ended.as_deref().unwrap_or("not ended")
}

fn text(run: &RunFile, summary: &Summary) -> String {
    let mut lines = Vec::new();
    if let Some(begun) = &summary.begun {
        let overrides: String = begun.overrides.iter().map(|flag| format!(" {flag}")).collect();
        lines.push(format!("{}: pipe {} {}{overrides}", run.id, begun.command, begun.recipe));
        lines.push(format!(
            "began {} UTC on {}, process {}, pipe {}",
            date(summary.at),
            begun.host,
            begun.process,
            begun.pipe
        ));
    }
    let how = match &summary.ended {
        Some(how) => format!("{how} in {}", duration(summary.seconds)),
        None => format!("not ended: it's still running, or was killed after {}", duration(summary.seconds)),
    };
    lines.push(format!("{how}; the cache saved {}\n", duration(summary.saved())));

    let mut table = Table::new();
    table.load_style(NOTHING).set_header(["stage", "kind", "", "time", ""]);
    for (name, stage) in &summary.stages {
        let time = if stage.seconds > 0.0 { duration(stage.seconds) } else { String::new() };
        table.add_row([name.as_str(), &stage.kind, stage.word(), &time, stage.told.as_deref().unwrap_or_default()]);
    }
    if let Some(column) = table.column_mut(3) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    lines.push(table.trim_fmt());
    let longest = summary.longest();
    if !longest.is_empty() {
        let longest = longest.iter().map(|(name, seconds)| format!("{name} {}", duration(*seconds)));
        lines.push(format!("\nlongest: {}", longest.collect::<Vec<_>>().join(", ")));
        lines.push(path_text(summary));
    }
    lines.join("\n")
}

fn path_text(summary: &Summary) -> String {
    let path = summary.critical_path();
    if path.is_empty() {
        return "critical path: nothing was computed".to_owned();
    }
    let seconds: f64 = path.iter().map(|(_, seconds)| seconds).sum();
    let stages: Vec<_> = path.iter().map(|(name, seconds)| format!("{name} {}", duration(*seconds))).collect();
    let whole = duration(summary.seconds);
    format!("critical path: {}: {} of {whole}", stages.join(" → "), duration(seconds))
}

fn one_json(run: &RunFile, summary: &Summary) -> Value {
    let stage = |(name, stage): (&String, &StageRun)| {
        let value = json!({
            "kind": stage.kind,
            "key": stage.key,
            "needs": stage.needs,
            "status": stage.ending,
            "seconds": stage.seconds,
            "saved_seconds": stage.saved,
            "told": stage.told,
        });
        (name.clone(), value)
    };
    let stages: Map<String, Value> = summary.stages.iter().map(stage).collect();
    let path: Vec<Value> =
        summary.critical_path().iter().map(|(stage, seconds)| json!({ "stage": stage, "seconds": seconds })).collect();
    json!({
        "run": run.id,
        "file": run.path,
        "command": summary.begun.as_ref().map(|begun| &begun.command),
        "recipe": summary.begun.as_ref().map(|begun| &begun.recipe),
        "overrides": summary.begun.as_ref().map(|begun| &begun.overrides),
        "host": summary.begun.as_ref().map(|begun| &begun.host),
        "process": summary.begun.as_ref().map(|begun| begun.process),
        "pipe": summary.begun.as_ref().map(|begun| &begun.pipe),
        "at": summary.at,
        "seconds": summary.seconds,
        "saved_seconds": summary.saved(),
        "ended": summary.ended,
        "passed_over": run.passed_over,
        "stages": stages,
        "critical_path": path,
    })
}
