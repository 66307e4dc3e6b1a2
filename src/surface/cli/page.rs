//! `pipe report`.

use std::{
    collections::BTreeSet,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result};
use fs_err as fs;
use indexmap::IndexMap;

use super::{
    args, console,
    exit::Exit,
    load::{self, RemoteChoice},
};
use crate::{
    engine::{plan::Graph, store::Artifact},
    session::{Recipe, Session, log::last_of, sweep::Stored},
    surface::report::{Subject, html},
};

/// `pipe report RECIPE`.
pub(super) fn report(command: &args::Report, store: &Path, remote: Option<RemoteChoice<'_>>) -> Result<Exit> {
    let recipe = load::recipe(&command.recipe)?;
    let page = page(&recipe, &load::session(store, remote)?)?;
    let output = command
        .output
        .clone()
        .unwrap_or_else(|| PathBuf::from(command.recipe.recipe.file_name().unwrap_or_default()).with_extension("html"));
    fs::write(&output, page)?;
    console::eprint_line(&format!("wrote {}", output.display()));
    Ok(Exit::Done)
}

/// What the store and the remote know of a recipe as HTML, without secrets.
///
/// # Errors
/// If the recipe is wrong, or the store or an input can't be read.
pub(super) fn page(recipe: &Recipe, session: &Session) -> Result<String> {
    let checked = &recipe.checked;
    let sweep = Stored::find(session, recipe)?;
    let results = sweep.as_ref().map(|stored| &stored.results);
    let first = results.and_then(|results| results.cells.get(*results.groups.first()?.cells.first()?));
    let best = first.filter(|cell| cell.good);
    let graph: Graph = match best {
        Some(cell) => {
            let settings = sweep.iter().flat_map(|stored| &stored.cells).find(|one| one.cell.number == cell.number);
            let settings = settings.context("a cell's settings are there")?;
            recipe.cell(&settings.cell.settings)?
        }
        None => recipe.graph()?,
    };
    let plan = session.everywhere().plan(&graph)?;
    let stored = |(name, _)| Some((String::from(name), plan.artifact(name)?.clone()));
    let artifacts: IndexMap<String, Artifact> = plan.stages().filter_map(stored).collect();
    session.save();
    let keys: BTreeSet<&str> = plan.stages().filter_map(|(_, planned)| planned.key.known()).collect();
    let run = last_of(session.store(), &checked.path, &keys)?;

    let aim = checked.recipe.sweep.as_ref().and_then(|sweep| sweep.aim());
    let recipe = checked.path.to_string_lossy();
    let page = html(&Subject {
        recipe: &recipe,
        text: checked.text(),
        stages: graph.by_id(),
        artifacts: &artifacts,
        remote: session.remote().map(|remote| &**remote),
        run: run.as_ref().map(|(file, summary)| (file, summary)),
        sweep: sweep.as_ref().map(|stored| (&stored.results, aim)),
        cell: best.map(|cell| cell.number),
    })?;
    Ok(console::redact(&page))
}
