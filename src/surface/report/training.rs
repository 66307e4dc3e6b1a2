//! How a model was trained.

use std::collections::BTreeMap;

use anyhow::Result;
use serde_json::{Value, json};

use super::{
    charts::{Caption, Plot},
    examples,
    format::rounded,
};
use crate::{
    engine::{
        remote::{Remote, small_file},
        store::Artifact,
    },
    learning::train::{Curve, Point},
    support::clock::duration,
};

/// Steps that a curve is drawn with, at most.
const POINTS: usize = 200;

/// Loss, learning rate and speed by step, and the metrics; nothing for a stage that doesn't train.
pub(super) fn section(name: &str, artifact: &Artifact, remote: Option<&Remote>) -> Result<Option<Value>> {
    let curve = small_file(artifact, Curve::FILE, remote).unwrap_or_default();
    let curve = Curve::parse(&String::from_utf8_lossy(&curve));
    let points: Vec<&Point> = curve.points().collect();
    if points.is_empty() {
        return Ok(None);
    }
    let dev = curve.evaluations().filter_map(|(step, metrics)| Some((step as f64, *metrics.get("loss")?)));
    let dev: Vec<(f64, f64)> = dev.collect();
    let part = points.len().div_ceil(POINTS).max(1);
    let mean = |part: &[&Point], value: fn(&Point) -> f64| {
        let last = part.last().map_or(0, |point| point.step);
        (last as f64, part.iter().map(|point| value(point)).sum::<f64>() / part.len() as f64)
    };
    let parts = if curve.is_mixed() { parts(&points) } else { BTreeMap::new() };
    let losses: Vec<_> = points.chunks(part).map(|part| mean(part, |point| f64::from(point.loss))).collect();
    let rates: Vec<_> = points.chunks(part).map(|part| mean(part, |point| point.lr)).collect();
    let ends = |curve: &[(f64, f64)]| {
        let value = |end: Option<&(f64, f64)>| end.map_or_else(String::new, |(_, value)| rounded(*value));
        format!("from {} to {} in {} steps", value(curve.first()), value(curve.last()), points.len())
    };
    let plot = |y: &str, title: String, description: String, series: &[Vec<(f64, f64)>]| {
        let caption = Caption { title: &title, description: &description };
        Plot { caption, x: "step", y, log_x: false, y_range: None, joined: true }.draw(series)
    };
    let has_dev = !dev.is_empty();
    let description = ends(&losses);
    let series = if has_dev { vec![losses, dev] } else { vec![losses] };
    let loss = plot("loss", format!("Loss of {name}"), description, &series)?;
    let parts = parts.into_iter().map(|(objective, losses)| {
        plot("loss", format!("Loss of {name}: {objective}"), ends(&losses), &[losses])
            .map(|svg| json!([objective, svg]))
    });
    let parts = parts.collect::<Result<Vec<_>>>()?;
    let rate = plot("learning rate", format!("Learning rate of {name}"), ends(&rates), &[rates])?;
    let speeds = speeds(artifact);
    // A stage that an older version computed doesn't have it.
    let speed = (!speeds.is_empty()).then(|| plot("tokens/s", format!("Speed of {name}"), ends(&speeds), &[speeds]));
    let number = |metric: &str| artifact.metrics.get(metric).and_then(Value::as_f64);
    let metrics: Vec<(&str, String)> = [
        ("steps", number("steps").map(rounded)),
        ("loss at the end", number("loss").map(rounded)),
        ("parameters", number("parameters").map(|count| format!("{:.2} million", count / 1e6))),
        ("tokens/s", number("tokens_per_second").map(|speed| format!("{speed:.0}"))),
        ("peak memory", number("peak_memory_bytes").map(|bytes| format!("{:.0} MB", bytes / 1e6))),
        ("time", Some(duration(artifact.provenance.seconds))),
    ]
    .into_iter()
    .filter_map(|(label, value)| Some((label, value?)))
    .collect();
    Ok(Some(json!({
        "name": name,
        "kind": artifact.manifest.kind,
        "loss": loss,
        "parts": parts,
        "rate": rate,
        "speed": speed.transpose()?,
        "dev": has_dev,
        "metrics": metrics,
        "examples": examples::list(artifact),
    })))
}

/// The loss of each objective by step, as means over stretches of the steps that have it.
fn parts<'a>(points: &[&'a Point]) -> BTreeMap<&'a str, Vec<(f64, f64)>> {
    let mut all: BTreeMap<&str, Vec<(f64, f64)>> = BTreeMap::new();
    for point in points {
        for (name, loss) in point.losses() {
            all.entry(name).or_default().push((point.step as f64, f64::from(loss)));
        }
    }
    let thinned = |losses: Vec<(f64, f64)>| {
        let mean = |part: &[(f64, f64)]| {
            (part[part.len() - 1].0, part.iter().map(|(_, loss)| loss).sum::<f64>() / part.len() as f64)
        };
        losses.chunks(losses.len().div_ceil(POINTS).max(1)).map(mean).collect()
    };
    all.into_iter().map(|(name, losses)| (name, thinned(losses))).collect()
}

/// Tokens/s by step: at the first one, and at the end of each window.
fn speeds(artifact: &Artifact) -> Vec<(f64, f64)> {
    let windows = artifact.provenance.throughput.windows();
    let first = windows.first().map(|window| (1, window.tokens_per_second()));
    let ends = windows.iter().map(|window| (window.step, window.tokens_per_second()));
    first.into_iter().chain(ends).map(|(step, speed)| (step as f64, speed)).collect()
}
