//! A sweep: its table, all settings at once, and the objective against each of them.

use anyhow::Result;
use serde_json::{Value, json};

use super::{
    charts::{Axis, Caption, Plot, parallel},
    format::rounded,
};
use crate::session::sweep::{Results, Status};

/// From this ratio on, an axis shows ratios.
const WIDE: f64 = 20.0;

/// The table and the plots; best first.
pub(super) fn section(results: &Results, aim: Option<(&str, bool)>) -> Result<Value> {
    let objective = aim.map(|(path, _)| short(path));
    let rows: Vec<Value> = results
        .groups
        .iter()
        .map(|group| {
            let settings: Vec<_> = results.varied.iter().map(|path| shown(group.settings.get(path))).collect();
            let spread = group.objective;
            json!({
                "settings": settings,
                "mean": spread.map(|summary| rounded(summary.mean)),
                "deviation": spread.and_then(|summary| summary.deviation).map(rounded),
                "dev_metric": group.dev_metric.map(|summary| rounded(summary.mean)),
                "state": results.state(group),
            })
        })
        .collect();
    let means: Vec<Option<f64>> =
        results.groups.iter().map(|group| group.objective.map(|summary| summary.mean)).collect();
    let mut plots = Vec::new();
    let mut coordinates = None;
    if let Some((path, _)) = aim {
        let mut axes: Vec<Axis> = results.varied.iter().map(|setting| axis(results, setting)).collect();
        axes.push(numeric(label(path), &means));
        let description = "a line for each combination of settings; the best one stands out";
        let caption = Caption { title: "All settings and the objective", description };
        coordinates = Some(parallel(&caption, &axes, results.groups.len())?);
        for setting in &results.varied {
            plots.extend(against(results, setting, path)?);
        }
    }
    let varied: Vec<&str> = results.varied.iter().map(|path| short(path)).collect();
    let fixed: Vec<(&str, String)> =
        results.fixed.iter().map(|(path, value)| (short(path), shown(Some(value)))).collect();
    let of = |status: Status| results.cells.iter().filter(|cell| cell.status() == status).count();
    let stopped = of(Status::Stopped);
    Ok(json!({
        "objective": objective,
        "varied": varied,
        "fixed": fixed,
        "rows": rows,
        "cells": results.cells.len(),
        "compared_by": results.compared_by,
        "stopped": stopped,
        "missing": results.cells.len() - of(Status::Done) - stopped,
        "coordinates": coordinates,
        "plots": plots,
    }))
}

/// The objective of each cell against a setting; nothing for settings that aren't numbers.
fn against(results: &Results, setting: &str, objective: &str) -> Result<Option<String>> {
    let points: Option<Vec<(f64, f64)>> = results
        .cells
        .iter()
        .filter_map(|cell| Some((cell.overrides.get(setting)?, cell.objective?)))
        .map(|(value, objective)| Some((value.as_f64()?, objective)))
        .collect();
    let Some(points) = points.filter(|points| !points.is_empty()) else { return Ok(None) };
    let log_x = is_wide(points.iter().map(|(value, _)| *value));
    let (x, y) = (short(setting), label(objective));
    let caption = Caption { title: &format!("{y} against {x}"), description: &format!("{} cells", points.len()) };
    Plot { caption, x, y: &y, log_x, y_range: None, joined: false }.draw(&[points]).map(Some)
}

fn axis(results: &Results, path: &str) -> Axis {
    let values: Vec<Option<&Value>> = results.groups.iter().map(|group| group.settings.get(path)).collect();
    let numbers: Option<Vec<Option<f64>>> =
        values.iter().map(|value| value.map_or(Some(None), |value| value.as_f64().map(Some))).collect();
    if let Some(numbers) = numbers {
        return numeric(label(path), &numbers);
    }
    let mut words: Vec<String> = values.iter().flatten().map(|value| shown(Some(value))).collect();
    words.sort();
    words.dedup();
    let last = words.len().max(2) - 1;
    let place = |word: &String| words.iter().position(|other| other == word).map(|at| at as f64 / last as f64);
    Axis {
        name: label(path),
        places: values.iter().map(|value| value.and_then(|value| place(&shown(Some(value))))).collect(),
        marks: words.iter().filter_map(|word| Some((place(word)?, word.clone()))).collect(),
    }
}

fn numeric(name: String, values: &[Option<f64>]) -> Axis {
    let known = || values.iter().flatten().copied();
    let log = is_wide(known());
    let scale = |value: f64| if log { value.ln() } else { value };
    let low = known().map(scale).fold(f64::INFINITY, f64::min);
    let high = known().map(scale).fold(f64::NEG_INFINITY, f64::max);
    let place = |value: f64| if high > low { (scale(value) - low) / (high - low) } else { 0.5 };
    let mut marks: Vec<f64> = known().collect();
    marks.sort_by(f64::total_cmp);
    marks.dedup();
    // A few distinct values are all named, many only at the ends.
    if marks.len() > 6 {
        marks = vec![marks[0], marks[marks.len() - 1]];
    }
    Axis {
        name,
        marks: marks.into_iter().map(|value| (place(value), rounded(value))).collect(),
        places: values.iter().map(|value| value.map(place)).collect(),
    }
}

fn is_wide(values: impl Iterator<Item = f64>) -> bool {
    let (low, high) = values.fold((f64::INFINITY, 0.0_f64), |(low, high), value| (low.min(value), high.max(value)));
    low > 0.0 && high / low >= WIDE
}

/// The last part of a path, for where there is little room.
fn label(path: &str) -> String {
    path.rsplit('.').next().unwrap_or(path).to_owned()
}

fn short(path: &str) -> &str {
    path.strip_prefix("stages.").unwrap_or(path)
}

fn shown(value: Option<&Value>) -> String {
    match value {
        None => "–".to_owned(),
        Some(Value::String(text)) => text.clone(),
        Some(value) => value.as_f64().map_or_else(|| value.to_string(), rounded),
    }
}
