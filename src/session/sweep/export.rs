//! A sweep's cells as CSV or Parquet: a row a cell, best first, with its settings and all metrics of its evaluations.

use std::{collections::BTreeSet, path::Path, sync::Arc};

use anyhow::{Context, Result};
use arrow::array::{ArrayRef, BooleanArray, Float64Array, Int64Array, StringArray};
use serde_json::Value;

use super::{Results, Standing};
use crate::stages::write_columns;

/// Writes `cell`, `status`, the settings by path, `objective`, and `STAGE.METRIC` for each stage that measures;
/// where cells were compared at rungs also `step`, `steps` and `dev_METRIC`, how far they came.
///
/// # Errors
/// If the file can't be written.
pub fn write_csv(path: &Path, results: &Results) -> Result<()> {
    let columns = columns(results);
    let mut writer = csv::Writer::from_path(path).with_context(|| format!("failed to write {}", path.display()))?;
    writer.write_record(columns.iter().map(|(name, _)| name))?;
    for row in 0..results.cells.len() {
        writer.write_record(columns.iter().map(|(_, values)| plain(&values[row])))?;
    }
    writer.flush().with_context(|| format!("failed to write {}", path.display()))
}

/// As [`write_csv`], with a type for each column: whole numbers, numbers, booleans or text.
///
/// # Errors
/// If the file can't be written.
pub fn write_parquet(path: &Path, results: &Results) -> Result<()> {
    let columns = columns(results);
    write_columns(path, columns.iter().map(|(name, values)| (name.as_str(), array(values))).collect())
}

/// A value as it stands in a table.
pub(super) fn plain(value: &Value) -> String {
    match value {
        Value::Null => String::new(),
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

fn columns(results: &Results) -> Vec<(String, Vec<Value>)> {
    let cells = &results.cells;
    let mut columns = vec![
        ("cell".to_owned(), cells.iter().map(|cell| cell.number.into()).collect::<Vec<Value>>()),
        ("status".to_owned(), cells.iter().map(|cell| cell.status().name().into()).collect()),
    ];
    let mut paths: Vec<&String> = Vec::new();
    for path in cells.iter().flat_map(|cell| cell.overrides.keys()) {
        if !paths.contains(&path) {
            paths.push(path);
        }
    }
    columns.extend(paths.into_iter().map(|path| {
        let values = cells.iter().map(|cell| cell.overrides.get(path).cloned().unwrap_or_default());
        (path.clone(), values.collect())
    }));
    columns.push(("objective".to_owned(), cells.iter().map(|cell| cell.objective.into()).collect()));
    if let Some(metric) = &results.compared_by {
        let of = |value: fn(&Standing) -> Value| {
            cells.iter().map(|cell| cell.standing.as_ref().map(value).unwrap_or_default()).collect::<Vec<_>>()
        };
        columns.push(("step".into(), of(|standing| standing.step.into())));
        columns.push(("steps".into(), of(|standing| standing.steps.into())));
        columns.push((format!("dev_{metric}"), of(|standing| standing.dev_metric.into())));
    }
    let measures = cells.iter().flat_map(|cell| &cell.stages).filter(|(_, outcome)| outcome.kind == "eval");
    let metrics: BTreeSet<(String, String)> = measures
        .filter_map(|(stage, outcome)| Some((stage, &outcome.artifact.as_ref()?.metrics)))
        .flat_map(|(stage, metrics)| metrics.iter().map(move |(name, value)| (stage, name, value)))
        .filter(|(_, _, value)| !value.is_object() && !value.is_array())
        .map(|(stage, name, _)| (stage.clone(), name.clone()))
        .collect();
    for (stage, name) in metrics {
        let metric = cells.iter().map(|cell| {
            let artifact = cell.stages.get(&stage).and_then(|outcome| outcome.artifact.as_ref());
            artifact.and_then(|artifact| artifact.metrics.get(&name)).cloned().unwrap_or_default()
        });
        columns.push((format!("{stage}.{name}"), metric.collect()));
    }
    columns
}

fn array(values: &[Value]) -> ArrayRef {
    let all = |fits: fn(&Value) -> bool| values.iter().all(|value| value.is_null() || fits(value));
    if all(Value::is_i64) {
        Arc::new(values.iter().map(Value::as_i64).collect::<Int64Array>())
    } else if all(Value::is_number) {
        Arc::new(values.iter().map(Value::as_f64).collect::<Float64Array>())
    } else if all(Value::is_boolean) {
        Arc::new(values.iter().map(Value::as_bool).collect::<BooleanArray>())
    } else {
        Arc::new(values.iter().map(|value| (!value.is_null()).then(|| plain(value))).collect::<StringArray>())
    }
}
