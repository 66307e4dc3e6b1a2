//! How good a classifier is.

use anyhow::Result;
use serde_json::{Value, json};

use super::{
    charts::{Caption, calibration},
    format::{percent, rounded},
};
use crate::{
    engine::{
        remote::{Remote, small_file},
        store::Artifact,
    },
    learning::metrics::EvalReport,
};

/// The file with what was measured.
const REPORT: &str = "report.json";

/// Metrics beside the baselines, classes, confusion, calibration and the worst errors. Of other evaluations the plain
/// metrics; nothing for a stage that isn't one.
pub(super) fn section(name: &str, artifact: &Artifact, remote: Option<&Remote>) -> Result<Option<Value>> {
    if artifact.files.iter().all(|file| file.path != REPORT) {
        return Ok(None);
    }
    let text = small_file(artifact, REPORT, remote).unwrap_or_default();
    let Ok(report) = serde_json::from_slice::<EvalReport>(&text) else {
        let metrics: Vec<_> =
            artifact.metrics.iter().filter_map(|(label, value)| Some((label, rounded(value.as_f64()?)))).collect();
        return Ok(Some(json!({ "name": name, "plain": metrics })));
    };
    let metrics = &report.all;
    let model = &metrics.model;
    let optional = |share: Option<f64>| share.map_or_else(|| "–".to_owned(), percent);
    let classes: Vec<Value> = report
        .labels
        .iter()
        .zip(&model.per_class)
        .map(|(label, class)| {
            json!([label, optional(class.precision), optional(class.recall), optional(class.f1), class.support])
        })
        .collect();
    let confusion: Vec<Value> = report
        .labels
        .iter()
        .zip(model.confusion.counts())
        .map(|(label, counts)| {
            let total = counts.iter().sum::<u64>().max(1) as f64;
            let cells: Vec<_> = counts.iter().map(|count| json!([count, *count as f64 / total])).collect();
            json!({ "label": label, "cells": cells })
        })
        .collect();
    let bins: Vec<(f64, f64, f64)> =
        model.calibration.bins.iter().filter_map(|bin| Some((bin.above, bin.up_to, bin.accuracy?))).collect();
    let description = format!("the expected calibration error is {}", percent(model.calibration.error));
    let caption = Caption { title: &format!("Calibration of {name}"), description: &description };
    let worst: Vec<Value> = report
        .worst
        .iter()
        .map(|error| json!([error.row, error.gold, error.predicted, percent(error.probability), error.text]))
        .collect();
    let own = [
        ("accuracy", percent(model.accuracy)),
        ("macro F1", percent(model.macro_f1)),
        ("log-loss", rounded(model.log_loss)),
        ("calibration error", percent(model.calibration.error)),
    ];
    let linear = metrics.linear.map(|linear| ("linear classifier", percent(linear.accuracy)));
    let others = [
        ("naive Bayes", percent(metrics.naive_bayes.accuracy)),
        ("majority class", percent(metrics.majority.accuracy)),
    ];
    let tiles: Vec<_> = own.into_iter().chain(linear).chain(others).collect();
    Ok(Some(json!({
        "name": name,
        "rows": report.rows,
        "leaked": report.leaked_rows,
        "tiles": tiles,
        "labels": report.labels,
        "classes": classes,
        "confusion": confusion,
        "calibration": calibration(&caption, &bins)?,
        "worst": worst,
    })))
}
