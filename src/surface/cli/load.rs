//! From the command line to a checked recipe and its graph.

use std::{path::Path, sync::Arc};

use anyhow::{Context, Result, bail};

use super::{args, ls::bytes, progress};
use crate::{
    data,
    engine::{
        plan::{self, Graph, Status},
        remote::Remote,
        store::{Artifact, DigestCache, Provenance, Store, host},
    },
    network::device::{DeviceChoice, DeviceChoices},
    recipe::{Checked, Document, Overrides, suggest},
    spec::Source,
    stages::{catalog, check_secrets},
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
    let checked = check(&Document::read(&arguments.recipe, catalog())?, &overrides(arguments))?;
    let graph = Graph::new(&checked)?;
    Ok(Loaded { checked, graph })
}

/// Checks a recipe; from then on its secrets aren't said.
///
/// # Errors
/// All mistakes in it.
pub(super) fn check(document: &Document, overrides: &Overrides) -> Result<Checked> {
    let checked = document.check(overrides, &columns)?;
    progress::hush(&checked);
    check_secrets(&checked)?;
    Ok(checked)
}

/// The columns of a data file; `None` where it can't be read, which a stage will explain better.
pub(super) fn columns(source: &Source, file: &Path) -> Option<Vec<String>> {
    data::header(source, file).ok()
}

/// The command line's changes to a recipe.
pub(super) fn overrides(arguments: &args::Recipe) -> Overrides {
    Overrides { vars: arguments.changes.vars.clone(), sets: arguments.changes.sets.clone() }
}

/// The devices to run on: the command line's, or else the recipe's.
///
/// # Errors
/// If one is unknown, or this build has no support for it.
pub(super) fn devices(place: &args::Place, checked: &Checked) -> Result<DeviceChoices> {
    match (&place.device, &place.devices, &checked.recipe.devices) {
        (None, Some(list), _) => list.parse::<DeviceChoices>()?.found(),
        (None, None, Some(devices)) => devices.choices.clone().found(),
        (device, ..) => {
            let choice: DeviceChoice = device.as_deref().map_or(Ok(checked.recipe.device.choice), str::parse)?;
            choice.check_support()?;
            Ok(choice.into())
        }
    }
}

/// The one device to run on, for what isn't shared.
///
/// # Errors
/// If it's unknown, or this build has no support for it.
pub(super) fn device(option: Option<&str>, checked: &Checked) -> Result<DeviceChoice> {
    let place = args::Place { device: option.map(str::to_owned), devices: None };
    Ok(devices(&place, checked)?.first)
}

/// The remote that was named, if one was.
///
/// # Errors
/// If there can't be one at this URL.
pub(super) fn remote(url: Option<&str>, store: &Store) -> Result<Option<Arc<Remote>>> {
    url.map(|url| Ok(Arc::new(Remote::open(url, store, progress::say)?))).transpose()
}

/// Brings the files of an artifact from the remote.
///
/// # Errors
/// If that can't be done.
pub(super) fn materialise(remote: &Remote, stage: &str, artifact: &Artifact) -> Result<Artifact> {
    progress::say(&format!("{stage}: fetching {} from the remote", bytes(artifact.bytes())));
    let waiting = || progress::say(&format!("{stage}: being computed elsewhere; waiting"));
    remote.materialise(artifact, &waiting, &|_, _| ())
}

/// What is recorded with every artifact of a run.
pub(super) fn provenance(arguments: &args::Recipe, checked: &Checked) -> Provenance {
    Provenance {
        pipe: env!("CARGO_PKG_VERSION").into(),
        recipe: checked.text().to_owned(),
        overrides: given(arguments),
        host: host(),
        ..Provenance::default()
    }
}

/// The command line's changes to a recipe, as they were given.
fn given(arguments: &args::Recipe) -> Vec<String> {
    let flags = |flag: &str, pairs: &[(String, String)]| -> Vec<String> {
        pairs.iter().map(|(name, value)| format!("--{flag} {name}={value}")).collect()
    };
    [flags("var", &arguments.changes.vars), flags("set", &arguments.changes.sets)].concat()
}

/// A flag as a shell takes it.
fn quoted(flag: &str) -> String {
    match flag.split_once(' ') {
        Some((name, value)) => format!("{name} {}", quoted_word(value)),
        None => flag.to_owned(),
    }
}

/// A word as a shell takes it.
pub(super) fn quoted_word(word: &str) -> String {
    if !word.is_empty() && word.chars().all(|c| c.is_alphanumeric() || "._=/+:,-".contains(c)) {
        return word.to_owned();
    }
    format!("'{}'", word.replace('\'', r"'\''"))
}

/// The artifact whose key begins with this.
///
/// # Errors
/// If there is none, or more than one, or if its record is damaged.
pub(super) fn artifact(store: &Store, key: &str) -> Result<Artifact> {
    let key = store.key(key)?;
    store.record(&key)?.with_context(|| format!("{key} was removed"))
}

/// The artifact of a stage of one of these kinds (of any, if none is given) that has been run as the recipe says now,
/// here or where the remote has it from.
///
/// # Errors
/// If it hasn't, or the recipe has no such stage.
pub(super) fn stored(
    arguments: &args::Recipe,
    stage: &str,
    kinds: &[&str],
    store: &Path,
    remote: Option<&str>,
) -> Result<(Checked, Artifact)> {
    let Loaded { checked, mut graph } = load(arguments)?;
    graph.select(&[stage.to_owned()])?;
    let kind = graph.get(stage).map(|node| node.stage.kind());
    if let Some(kind) = kind.filter(|kind| !kinds.is_empty() && !kinds.contains(kind)) {
        let fitting = checked.recipe.stages.iter().filter(|(_, stage)| kinds.contains(&stage.kind()));
        let fitting = suggest::list(fitting.map(|(name, _)| name.as_str()));
        let hint = if fitting.is_empty() { "the recipe has none".to_owned() } else { format!("there is {fitting}") };
        bail!("`{stage}` is of kind {kind}, and a {} stage is needed\nhint: {hint}", kinds.join(" or "));
    }
    let store = Store::open(store)?;
    let mut digests = DigestCache::open(store.root());
    let remote = self::remote(remote, &store)?;
    let planned = plan::plan(&graph, &store, remote.as_deref(), &mut digests, &[])?;
    let status = planned.into_iter().find(|planned| planned.name == stage).map(|planned| planned.status);
    let artifact = match (status, &remote) {
        (Some(Status::Hit(artifact)), _) => Some(*artifact),
        (Some(Status::Remote(artifact)), Some(remote)) => Some(materialise(remote, stage, &artifact)?),
        _ => None,
    };
    let artifact = artifact.with_context(|| {
        let recipe = arguments.recipe.display();
        let flags: String = given(arguments).iter().map(|flag| format!(" {}", quoted(flag))).collect();
        format!("`{stage}` hasn't been run as {recipe} says now\nhint: pipe run {recipe} --stage {stage}{flags}")
    })?;
    Ok((checked, artifact))
}
