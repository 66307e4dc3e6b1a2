//! How a model was trained.

use anyhow::Result;
use serde_json::{Value, json};

use super::{
    charts::{About, Plot},
    duration, figure,
};
use crate::{
    store::Artifact,
    train::{CURVE, Curve, Point},
};

/// Steps that a curve is drawn with, at most.
const POINTS: usize = 200;

/// Loss and learning rate by step, and the figures; nothing for a stage that doesn't train.
pub(super) fn section(name: &str, artifact: &Artifact) -> Result<Option<Value>> {
    let text = std::fs::read_to_string(artifact.file(CURVE)).unwrap_or_default();
    let points: Vec<Point> = text.lines().filter_map(|line| serde_json::from_str(line).ok()).collect();
    if points.is_empty() {
        return Ok(None);
    }
    let dev = Curve::evaluations_in(&text).into_iter();
    let dev: Vec<_> = dev.filter_map(|(step, metrics)| Some((step as f64, *metrics.get("loss")?))).collect();
    let part = points.len().div_ceil(POINTS).max(1);
    let mean = |part: &[Point], value: fn(&Point) -> f64| {
        let last = part.last().map_or(0, |point| point.step);
        (last as f64, part.iter().map(value).sum::<f64>() / part.len() as f64)
    };
    let losses: Vec<_> = points.chunks(part).map(|part| mean(part, |point| f64::from(point.loss))).collect();
    let rates: Vec<_> = points.chunks(part).map(|part| mean(part, |point| point.lr)).collect();
    let ends = |curve: &[(f64, f64)]| {
        let value = |end: Option<&(f64, f64)>| end.map_or_else(String::new, |(_, value)| figure(*value));
        format!("from {} to {} in {} steps", value(curve.first()), value(curve.last()), points.len())
    };
    let plot = |y: &str, title: String, says: String, series: &[Vec<(f64, f64)>]| {
        let about = About { title: &title, says: &says };
        Plot { about, x: "step", y, log_x: false, y_range: None, joined: true }.draw(series)
    };
    let has_dev = !dev.is_empty();
    let says = ends(&losses);
    let series = if has_dev { vec![losses, dev] } else { vec![losses] };
    let loss = plot("loss", format!("Loss of {name}"), says, &series)?;
    let rate = plot("learning rate", format!("Learning rate of {name}"), ends(&rates), &[rates])?;
    let number = |metric: &str| artifact.metrics.get(metric).and_then(Value::as_f64);
    let figures: Vec<(&str, String)> = [
        ("steps", number("steps").map(figure)),
        ("loss at the end", number("loss").map(figure)),
        ("parameters", number("parameters").map(|count| format!("{:.2} million", count / 1e6))),
        ("tokens/s", number("tokens_per_second").map(|speed| format!("{speed:.0}"))),
        ("peak memory", number("peak_memory_bytes").map(|bytes| format!("{:.0} MB", bytes / 1e6))),
        ("time", Some(duration(artifact.provenance.seconds))),
    ]
    .into_iter()
    .filter_map(|(label, value)| Some((label, value?)))
    .collect();
    Ok(Some(
        json!({ "name": name, "kind": artifact.manifest.kind, "loss": loss, "rate": rate, "dev": has_dev, "figures": figures }),
    ))
}
