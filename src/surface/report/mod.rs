//! What is known of a recipe as one HTML file that needs no network: stages, curves, evaluations, sweep, provenance.
//!
//! Figures become SVG (`charts.rs`, drawn by plotters), everything else tables; `page.html` puts them together, and its
//! template engine escapes all text. Charts are drawn in colours that stand for roles, which the page's style sheet
//! replaces, so that one drawing serves light, dark and paper.

mod charts;
mod evaluation;
mod graph;
mod sweep;
mod training;

use anyhow::{Context, Result};
use indexmap::IndexMap;
use minijinja::{AutoEscape, Environment, value::Serde};
use serde_json::{Value, json};

use crate::{
    engine::{plan::Node, store::Artifact},
    session::sweep::Results,
};

/// A recipe as far as it was run.
pub struct Subject<'a> {
    /// The recipe's file.
    pub recipe: &'a str,
    /// Its text.
    pub text: &'a str,
    /// Its stages (of a sweep those of one cell), each after those it needs.
    pub stages: &'a IndexMap<String, Node>,
    /// What the store has of them.
    pub artifacts: &'a IndexMap<String, Artifact>,
    /// The sweep's results and its objective, where there is a sweep.
    pub sweep: Option<(&'a Results, Option<(&'a str, bool)>)>,
    /// The sweep's cell whose stages are shown.
    pub cell: Option<usize>,
}

/// The page.
///
/// # Errors
/// If a stored file can't be read, or a chart can't be drawn.
pub fn html(subject: &Subject<'_>) -> Result<String> {
    let mut evaluations = Vec::new();
    let mut trainings = Vec::new();
    for (name, artifact) in subject.artifacts {
        evaluations.extend(evaluation::section(name, artifact)?);
        trainings.extend(training::section(name, artifact)?);
    }
    let sweep = subject.sweep.map(|(results, aim)| sweep::section(results, aim)).transpose()?;
    let page = json!({
        "recipe": subject.recipe,
        "cell": subject.cell,
        "graph": graph::section(subject)?,
        "evaluations": evaluations,
        "trainings": trainings,
        "sweep": sweep,
        "provenance": subject.artifacts.iter().map(|(name, artifact)| provenance(name, artifact)).collect::<Vec<_>>(),
        "text": subject.text,
        "pipe": env!("CARGO_PKG_VERSION"),
    });
    let mut environment = Environment::new();
    environment.set_auto_escape_callback(|_| AutoEscape::Html);
    environment.add_template("page", include_str!("page.html")).context("the page's template is broken")?;
    environment.get_template("page")?.render(Serde(&page)).context("the page can't be put together")
}

fn provenance(name: &str, artifact: &Artifact) -> Value {
    let made = &artifact.provenance;
    json!({
        "stage": name,
        "kind": artifact.manifest.kind,
        "key": &artifact.key[..artifact.key.len().min(12)],
        "digest": &artifact.digest[..artifact.digest.len().min(12)],
        "device": made.device,
        "host": made.host,
        "pipe": made.pipe,
        "seconds": duration(made.seconds),
        "overrides": made.overrides,
    })
}

/// Seconds as a person reads them.
fn duration(seconds: f64) -> String {
    match seconds {
        s if s < 0.0995 => format!("{:.0} ms", s * 1e3),
        s if s < 99.95 => format!("{s:.1} s"),
        s => format!("{:.0} min {:02.0} s", (s / 60.0).floor(), (s % 60.0).floor()),
    }
}

/// A number with as many digits as mean something.
fn figure(value: f64) -> String {
    match value.abs() {
        0.0 => "0".to_owned(),
        size if !(1e-3..1e6).contains(&size) => format!("{value:.1e}"),
        size if size >= 100.0 => format!("{value:.0}"),
        _ => {
            let text = format!("{value:.4}");
            text.trim_end_matches('0').trim_end_matches('.').to_owned()
        }
    }
}

fn percent(share: f64) -> String {
    format!("{:.1} %", 100.0 * share)
}
