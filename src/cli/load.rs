//! From the command line to a checked recipe and its graph.

use std::path::Path;

use anyhow::{Context, Result};

use super::args;
use crate::{
    data,
    device::DeviceChoice,
    plan::{self, Graph, Status},
    recipe::{Checked, Document, Overrides, spec::Source},
    store::{Artifact, DigestCache, Provenance, Store},
};

/// A recipe that was found free of mistakes, and its graph.
pub(super) struct Loaded {
    pub checked: Checked,
    pub graph: Graph,
}

/// Loads, checks and plans a recipe.
///
/// # Errors
/// All mistakes in it, as [`recipe::Diagnostics`].
pub(super) fn load(arguments: &args::Recipe) -> Result<Loaded> {
    let checked = Document::read(&arguments.recipe)?.check(&overrides(arguments), &columns)?;
    let graph = Graph::new(&checked)?;
    Ok(Loaded { checked, graph })
}

/// The columns of a data file; `None` where it can't be read, which a stage will explain better.
pub(super) fn columns(source: &Source, file: &Path) -> Option<Vec<String>> {
    data::header(source, file).ok()
}

/// The command line's changes to a recipe.
pub(super) fn overrides(arguments: &args::Recipe) -> Overrides {
    Overrides { vars: arguments.vars.clone(), sets: arguments.sets.clone() }
}

/// The device to run on: the command line's, or else the recipe's.
///
/// # Errors
/// If it's unknown, or this build has no support for it.
pub(super) fn device(option: Option<&str>, checked: &Checked) -> Result<DeviceChoice> {
    let choice: DeviceChoice = option.unwrap_or(&checked.recipe.device).parse()?;
    choice.check_support()?;
    Ok(choice)
}

/// What is recorded with every artifact of a run.
pub(super) fn provenance(arguments: &args::Recipe, checked: &Checked, device: &DeviceChoice) -> Provenance {
    let given = |flag: &str, pairs: &[(String, String)]| -> Vec<String> {
        pairs.iter().map(|(name, value)| format!("--{flag} {name}={value}")).collect()
    };
    Provenance {
        pipe: env!("CARGO_PKG_VERSION").into(),
        recipe: checked.text().to_owned(),
        overrides: [given("var", &arguments.vars), given("set", &arguments.sets)].concat(),
        device: device.to_string(),
        host: host(),
        ..Provenance::default()
    }
}

fn host() -> String {
    let read = |path: &str| std::fs::read_to_string(Path::new(path)).ok();
    let name = read("/proc/sys/kernel/hostname").or_else(|| std::env::var("HOSTNAME").ok());
    name.or_else(|| std::env::var("COMPUTERNAME").ok()).unwrap_or_default().trim().to_owned()
}

/// The artifact of a stage that has been run as the recipe says now.
///
/// # Errors
/// If it hasn't, or the recipe has no such stage.
pub(super) fn stored(arguments: &args::Recipe, stage: &str, store: &Path) -> Result<(Checked, Artifact)> {
    let Loaded { checked, mut graph } = load(arguments)?;
    graph.select(&[stage.to_owned()])?;
    let store = Store::open(store)?;
    let mut digests = DigestCache::open(store.root());
    let planned = plan::plan(&graph, &store, &mut digests, &[])?;
    let artifact = planned.into_iter().find(|planned| planned.name == stage).and_then(|planned| match planned.status {
        Status::Hit(artifact) => Some(*artifact),
        Status::Miss { .. } | Status::Waits(_) => None,
    });
    let recipe = arguments.recipe.display();
    let artifact = artifact.with_context(|| {
        format!("`{stage}` hasn't been run as {recipe} says now; run it first: pipe run {recipe} --stage {stage}")
    })?;
    Ok((checked, artifact))
}
