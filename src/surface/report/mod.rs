//! What is known of a recipe as one HTML file that needs no network: stages, curves, evaluations, sweep, the
//! last run, provenance.
//!
//! Charts become SVG (`charts.rs`, drawn by plotters), everything else tables; `page.html` puts them together, and its
//! template engine escapes all text. Charts are drawn in colours that stand for roles, which the page's style sheet
//! replaces, so that one drawing serves light, dark and paper.

mod charts;
mod evaluation;
mod examples;
mod format;
mod graph;
mod run;
mod subject;
mod sweep;
mod training;

use anyhow::{Context, Result};
use minijinja::{AutoEscape, Environment, value::Serde};
use serde_json::{Value, json};

use crate::{engine::store::Artifact, support::clock::duration};

pub use subject::Subject;

/// The page.
///
/// # Errors
/// If a stored file can't be read, or a chart can't be drawn.
pub fn html(subject: &Subject<'_>) -> Result<String> {
    let mut evaluations = Vec::new();
    let mut trainings = Vec::new();
    for (name, artifact) in subject.artifacts {
        evaluations.extend(evaluation::section(name, artifact, subject.remote)?);
        trainings.extend(training::section(name, artifact, subject.remote)?);
    }
    let sweep = subject.sweep.map(|(results, aim)| sweep::section(results, aim)).transpose()?;
    let page = json!({
        "recipe": subject.recipe,
        "cell": subject.cell,
        "graph": graph::section(subject)?,
        "evaluations": evaluations,
        "trainings": trainings,
        "run": subject.run.map(|(file, summary)| run::section(file, summary)),
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
