//! `pipe report`.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use fs_err as fs;
use indexmap::IndexMap;

use super::{DONE, args, load, progress};
use crate::{
    engine::{
        plan::{Graph, Node},
        store::{Artifact, DigestCache, Store},
    },
    recipe::Document,
    session::sweep::{Planner, Space, Stored, lookup},
    stages::catalog,
    surface::report::{Subject, html},
};

/// `pipe report RECIPE`.
pub(super) fn report(command: &args::Report, store: &Path) -> Result<u8> {
    let page = page(&command.recipe, &Store::open(store)?)?;
    let output = command
        .output
        .clone()
        .unwrap_or_else(|| PathBuf::from(command.recipe.recipe.file_name().unwrap_or_default()).with_extension("html"));
    fs::write(&output, page)?;
    progress::say(&format!("wrote {}", output.display()));
    Ok(DONE)
}

/// What the store knows of a recipe as HTML, without secrets.
///
/// # Errors
/// If the recipe is wrong, or the store or an input can't be read.
pub(super) fn page(arguments: &args::Recipe, store: &Store) -> Result<String> {
    let document = Document::read(&arguments.recipe, catalog())?;
    let overrides = load::overrides(arguments);
    let checked = load::check(&document, &overrides)?;
    let mut digests = DigestCache::open(store.root());

    let sweep = Space::new(&checked)?.map(|space| {
        let planner = Planner::new(&document, &overrides, &load::columns);
        Stored::find(space, planner, &checked, store, &mut digests)
    });
    let sweep = sweep.transpose()?;
    let results = sweep.as_ref().map(|stored| &stored.results);
    let first = results.and_then(|results| results.cells.get(*results.groups.first()?.cells.first()?));
    let best = first.filter(|cell| cell.good);
    let graph = match best {
        Some(cell) => {
            let settings = sweep.iter().flat_map(|stored| &stored.cells).find(|one| one.cell.number == cell.number);
            let settings = settings.context("a cell's settings are there")?;
            Graph::new(&document.check_cell(&overrides, &settings.cell.settings, &load::columns)?)?
        }
        None => Graph::new(&checked)?,
    };
    let stages: IndexMap<String, Node> = graph.nodes().map(|node| (node.name.clone(), node.clone())).collect();
    let outcomes = lookup(&stages, store, &mut digests)?;
    let artifacts: IndexMap<String, Artifact> =
        outcomes.into_iter().filter_map(|(name, outcome)| Some((name, outcome.artifact?))).collect();
    digests.save();

    let aim = checked.recipe.sweep.as_ref().and_then(|sweep| sweep.aim());
    let recipe = arguments.recipe.to_string_lossy();
    let page = html(&Subject {
        recipe: &recipe,
        text: checked.text(),
        stages: &stages,
        artifacts: &artifacts,
        sweep: sweep.as_ref().map(|stored| (&stored.results, aim)),
        cell: best.map(|cell| cell.number),
    })?;
    Ok(progress::hushed(&page))
}
