//! `pipe compare`: recipes, cells of sweeps and stored runs side by side.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};
use indexmap::IndexMap;
use serde_json::{Value, json};

use super::{
    args, compare_text,
    comparison::Pair,
    console,
    exit::Exit,
    load::{self, RemoteChoice},
};
use crate::{
    engine::store::Artifact,
    session::{Session, sweep::Stored},
};

/// One of the things that are compared: its stages that are stored, here or in the remote, by name.
pub(super) struct Side {
    pub(super) name: String,
    pub(super) stages: IndexMap<String, Artifact>,
    /// Whether it's a single run, which is compared with the stage of its kind whatever that is called.
    is_run: bool,
}

/// `pipe compare A B …`.
pub(super) fn compare(command: &args::Compare, store: &Path, remote: Option<RemoteChoice<'_>>) -> Result<Exit> {
    let session = load::session(store, remote)?;
    let sides: Vec<Side> =
        command.sides.iter().map(|name| side(name, &command.changes, &session)).collect::<Result<_>>()?;
    let [first, others @ ..] = sides.as_slice() else { bail!("nothing to compare") };
    let mut comparisons = Vec::new();
    for other in others {
        comparisons.push((other, pairs(first, other, command, &session)?));
    }
    if command.json {
        let value: Vec<Value> = comparisons
            .iter()
            .map(|(other, pairs)| json!({ "a": first.name, "b": other.name, "stages": pairs.iter().map(Pair::json).collect::<Vec<_>>() }))
            .collect();
        console::print(&serde_json::to_string_pretty(&value)?)?;
    } else {
        let texts: Vec<_> =
            comparisons.iter().map(|(other, pairs)| compare_text::text(&first.name, &other.name, pairs)).collect();
        console::print(&texts.join("\n"))?;
    }
    Ok(Exit::Done)
}

/// What a word on the command line means: a recipe's file, a cell of its sweep, or a key.
fn side(name: &str, changes: &args::Changes, session: &Session) -> Result<Side> {
    let recipe = |path: &str| args::Recipe { recipe: PathBuf::from(path), changes: changes.clone() };
    if Path::new(name).is_file() {
        let loaded = load::load(&recipe(name))?;
        let plan = session.everywhere().plan(&loaded.graph)?;
        let stages = plan.stages().filter_map(|(name, _)| Some((name.to_owned(), plan.artifact(name)?.clone())));
        return Side::new(name, stages.collect(), false);
    }
    match name.rsplit_once(':') {
        Some((path, number)) if Path::new(path).is_file() => {
            let number: usize = number.parse().with_context(|| format!("`{number}` is not a cell number"))?;
            Side::new(name, cell(&recipe(path), number, session)?, false)
        }
        _ => {
            let known = name.len() >= 4 && name.chars().all(|letter| letter.is_ascii_hexdigit());
            ensure!(known, "`{name}` is neither a recipe file, RECIPE:CELL, nor an artifact key");
            let artifact = load::artifact(session, name)?;
            Side::new(name, IndexMap::from([(artifact.provenance.stage.clone(), artifact)]), true)
        }
    }
}

/// The stored stages of a sweep's cell.
fn cell(arguments: &args::Recipe, number: usize, session: &Session) -> Result<IndexMap<String, Artifact>> {
    let found = Stored::find(session, &load::recipe(arguments)?)?;
    let found = found.with_context(|| format!("{} has no `sweep` section", arguments.recipe.display()))?;
    let count = found.cells.len();
    let cell = found.results.cells.into_iter().find(|cell| cell.number == number);
    let cell = cell.with_context(|| format!("the sweep has no cell {number}; it has cells 1 to {count}"))?;
    Ok(cell.stages.into_iter().filter_map(|(name, outcome)| Some((name, outcome.artifact?))).collect())
}

impl Side {
    fn new(name: &str, stages: IndexMap<String, Artifact>, is_run: bool) -> Result<Self> {
        ensure!(!stages.is_empty(), "no stored results for {name}; run it first");
        Ok(Self { name: name.to_owned(), stages, is_run })
    }
}

/// The stages that both sides have: of the same name, or of the same kind where one of the sides is a single run.
fn pairs(first: &Side, second: &Side, command: &args::Compare, session: &Session) -> Result<Vec<Pair>> {
    let remote = session.remote().map(|remote| &**remote);
    let mut pairs = Vec::new();
    for (stage, one) in &first.stages {
        let of_kind = || second.stages.values().find(|other| other.manifest.kind == one.manifest.kind);
        let by_kind = first.is_run || second.is_run;
        let same = second.stages.get(stage).filter(|other| other.manifest.kind == one.manifest.kind);
        if let Some(other) = same.or_else(|| if by_kind { of_kind() } else { None }) {
            pairs.push(Pair::new(stage, one, other, remote, (command.resamples, command.seed))?);
        }
    }
    ensure!(!pairs.is_empty(), "{} and {} have no stored stage in common", first.name, second.name);
    Ok(pairs)
}
