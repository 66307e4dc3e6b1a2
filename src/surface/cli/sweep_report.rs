//! What a sweep found, as a table and as JSON.

use comfy_table::{CellAlignment, Table, presets::NOTHING};
use serde_json::{Map, Value, json};

use super::{
    console::{count, redact},
    report::format_metric,
    run::stage_json,
};
use crate::{
    session::sweep::{Group, Results, Summary},
    spec,
};

/// A row for each combination of settings, best first; below it what is the same in all of them.
pub(super) fn table(results: &Results, sweep: &spec::Sweep) -> String {
    let aim = sweep.aim().map(|(path, _)| path);
    let repeats = sweep.repeat.is_some();
    let mut table = Table::new();
    table.load_style(NOTHING);
    let mut header: Vec<&str> = vec!["", "cell"];
    header.extend(results.varied.iter().map(|path| short(path)));
    header.extend(aim.map(short));
    let compared_by = results.compared_by.as_ref().map(|metric| format!("dev {metric}"));
    header.extend(compared_by.as_deref());
    header.extend(repeats.then_some("seeds"));
    header.push("status");
    table.set_header(header);
    for (rank, group) in results.groups.iter().enumerate() {
        let best = rank == 0 && group.objective.is_some();
        let mut row = vec![if best { "best".to_owned() } else { String::new() }, numbers(results, group)];
        row.extend(results.varied.iter().map(|path| group.settings.get(path).map_or_else(|| "–".into(), plain)));
        if aim.is_some() {
            row.push(group.objective.map_or_else(|| "–".into(), summary));
        }
        if compared_by.is_some() {
            row.push(group.dev_metric.map_or_else(|| "–".into(), summary));
        }
        if repeats {
            row.push(group.cells.len().to_string());
        }
        row.push(results.state(group));
        table.add_row(row);
    }
    for column in table.column_iter_mut().skip(1) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    let mut text = table.to_string();
    if !results.fixed.is_empty() {
        let fixed = settings(results.fixed.iter().map(|(path, value)| (path, value)));
        text.push_str(&format!("\nthe same in all cells: {fixed}"));
    }
    text
}

/// All cells, best first, and the groups of those that differ in their seed only.
pub(super) fn json(results: &Results, sweep: &spec::Sweep) -> Value {
    let cells = results.cells.iter().map(|cell| {
        let stages: Map<_, _> = cell.stages.iter().map(|(name, outcome)| (name.clone(), stage_json(outcome))).collect();
        let mut value = json!({
            "cell": cell.number,
            "overrides": cell.overrides,
            "seed": cell.seed,
            "status": cell.status().name(),
            "objective": cell.objective,
            "stages": stages,
        });
        if let Some(standing) = cell.standing {
            value["rungs"] = json!({
                "compared": standing.compared,
                "step": standing.step,
                "steps": standing.steps,
                "dev_metric": standing.dev_metric,
            });
        }
        value
    });
    let groups = results.groups.iter().map(|group| {
        json!({
            "settings": group.settings,
            "cells": group.cells.iter().map(|index| results.cells[*index].number).collect::<Vec<_>>(),
            "done": group.good,
            "mean": group.objective.map(|summary| summary.mean),
            "deviation": group.objective.and_then(|summary| summary.deviation),
        })
    });
    json!({
        "objective": sweep.aim().map(|(path, _)| path),
        "varied": results.varied,
        "cells": cells.collect::<Vec<_>>(),
        "groups": groups.collect::<Vec<_>>(),
    })
}

/// The cells that failed, a line each; none if all are well.
pub(super) fn failures(results: &Results) -> Option<String> {
    let mut failed: Vec<_> = results.cells.iter().filter_map(|cell| Some((cell, cell.failure()?))).collect();
    if failed.is_empty() {
        return None;
    }
    failed.sort_by_key(|(cell, _)| cell.number);
    let mut lines = vec![format!("{} failed, to be retried on the next run:", count(failed.len(), "cell"))];
    lines.extend(failed.into_iter().map(|(cell, (stage, error))| {
        let settings = settings(cell.overrides.iter());
        format!("  cell {}  {settings}\n    {stage}: {}", cell.number, redact(error).replace('\n', "\n    "))
    }));
    Some(lines.join("\n"))
}

/// Settings in a line.
pub(super) fn settings<'a>(values: impl Iterator<Item = (&'a String, &'a Value)>) -> String {
    values.map(|(path, value)| format!("{path}={}", plain(value))).collect::<Vec<_>>().join("  ")
}

fn numbers(results: &Results, group: &Group) -> String {
    let mut numbers: Vec<usize> = group.cells.iter().map(|index| results.cells[*index].number).collect();
    numbers.sort_unstable();
    match numbers.as_slice() {
        [] => String::new(),
        [only] => only.to_string(),
        [first, .., last] => format!("{first}–{last}"),
    }
}

fn summary(summary: Summary) -> String {
    let mean = format_metric(&summary.mean.into());
    summary.deviation.map_or(mean.clone(), |deviation| format!("{mean} ± {}", format_metric(&deviation.into())))
}

fn plain(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

/// A path without what all of them begin with.
fn short(path: &str) -> &str {
    path.strip_prefix("stages.").unwrap_or(path)
}
