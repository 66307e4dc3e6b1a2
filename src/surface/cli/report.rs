//! Results as tables.

use comfy_table::{CellAlignment, Table, presets::NOTHING};
use indexmap::IndexMap;
use serde_json::Value;

use super::console::{duration, redact};
use crate::{
    engine::{
        executor::{Ending, Outcome},
        remote::{self, Remote},
        store::Metrics,
    },
    learning::metrics::{EvalReport, render},
};

/// The metrics worth a place in the table of stages, by what a stage has.
const HEADLINES: [&str; 14] = [
    "loss",
    "dev_accuracy",
    "accuracy",
    "macro_f1",
    "perplexity",
    "bits_per_character",
    "masked_accuracy",
    "next_sentence_accuracy",
    "sentence_order_accuracy",
    "steps",
    "parameters",
    "tokens_per_second",
    "documents",
    "vocab_size",
];

/// The file of an evaluation that the tables are made of.
const REPORT: &str = "report.json";

/// The stages and their main metrics, and below them what evaluations found.
pub(super) fn outcomes(outcomes: &IndexMap<String, Outcome>, remote: Option<&Remote>) -> String {
    let mut table = Table::new();
    table.load_style(NOTHING).set_header(["stage", "kind", "", "time", "metrics"]);
    for (name, outcome) in outcomes {
        let state = match outcome.ending {
            Ending::Hit => "unchanged",
            Ending::Fetched => "in the remote",
            Ending::Ran => "ran",
            Ending::Paused => "paused",
            Ending::Failed => "failed",
            Ending::NotRun => "not run",
            Ending::Stopped => "stopped",
        };
        let metrics = match &outcome.artifact {
            Some(artifact) => headline(&artifact.metrics),
            None => outcome.error.as_deref().map(redact).unwrap_or_default(),
        };
        table.add_row([name.as_str(), &outcome.kind, state, &duration(outcome.seconds), &metrics]);
    }
    if let Some(column) = table.column_mut(3) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    let mut text = table.to_string();
    for (name, outcome) in outcomes {
        let Some(artifact) = &outcome.artifact else { continue };
        let report = remote::small_file(artifact, REPORT, remote);
        if let Some(report) = report.and_then(|text| serde_json::from_slice::<EvalReport>(&text).ok()) {
            text.push_str(&format!("\n\n{name}\n{}", render::metrics(&report)));
        }
    }
    text
}

fn headline(metrics: &Metrics) -> String {
    // A mixed loss is told with its parts.
    let is_part = |part: &str, name: &str| part.strip_prefix(name).is_some_and(|rest| rest.starts_with('/'));
    let shown = HEADLINES.iter().flat_map(|name| {
        let known = metrics.get_key_value(*name).into_iter();
        known.chain(metrics.iter().filter(move |(part, _)| is_part(part, name)))
    });
    shown.take(5).map(|(name, value)| format!("{name} {}", format_metric(value))).collect::<Vec<_>>().join("  ")
}

/// All plain metrics, a line each.
pub(super) fn metrics(metrics: &Metrics) -> String {
    let lines = metrics.iter().filter(|(_, value)| !value.is_object() && !value.is_array());
    lines.map(|(name, value)| format!("{name}  {}", format_metric(value))).collect::<Vec<_>>().join("\n")
}

/// A metric with as many digits as mean something.
pub(super) fn format_metric(value: &Value) -> String {
    match value {
        Value::Number(number) if number.is_f64() => {
            let number = number.as_f64().unwrap_or(f64::NAN);
            match number.abs() {
                n if n == 0.0 || (0.001..1000.0).contains(&n) => format!("{number:.4}"),
                n if n >= 1000.0 => format!("{number:.0}"),
                _ => format!("{number:.3e}"),
            }
        }
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

/// The same of a number, of which it isn't known whether it counts something.
pub(super) fn format_number(value: f64) -> String {
    if value.fract() == 0.0 && value.abs() < 1e15 { format!("{value:.0}") } else { format_metric(&value.into()) }
}
