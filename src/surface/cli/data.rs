//! `pipe data`.

use std::path::Path;

use anyhow::{Result, bail};

use super::{
    args::{self, Number},
    console::{self, bytes},
    example_text,
    exit::Exit,
    load::{self, RemoteChoice},
};
use crate::{
    engine::store::Artifact,
    session::Recipe,
    stages::{Choice, NotRun},
    support::Hinted,
};

/// `pipe data RECIPE STAGE`.
pub(super) fn data(command: &args::Data, store: &Path, remote: Option<RemoteChoice<'_>>) -> Result<Exit> {
    let recipe = load::recipe(&command.recipe)?;
    let session = load::session(store, remote)?;
    let fetching = |stage: &str, artifact: &Artifact| {
        console::eprint_line(&format!("{stage}: fetching {} from the remote", bytes(artifact.bytes())));
    };
    let feed = session.training_feed(&recipe, &command.stage, &fetching);
    let feed = feed.map_err(|error| explained(error, command, &recipe))?;
    session.save();

    let args::Data { number: Number(most), step, row, json, .. } = command;
    let choice = Choice { most: *most, step: step.map(|step| step as usize), place: row.map(|row| row as usize) };
    let (colour, width) = (console::colour_of_results(), console::columns());
    let mut shown = 0;
    feed.each(&choice, &mut |example| {
        shown += 1;
        if *json {
            return console::print(&serde_json::to_string(&example)?);
        }
        let gap = if shown > 1 { "\n" } else { "" };
        console::print(&format!("{gap}{}", example_text::text(&example, colour, width)))
    })?;
    if let (0, Some(row)) = (shown, row) {
        bail!(Hinted::with(
            format!("`{}` is given no example that is made of row {row}", command.stage),
            "rows are counted as in messages, where a header line counts; a row that's too long may be left out",
        ));
    }
    Ok(Exit::Done)
}

/// An error with what to run first, if that's what it is.
fn explained(error: anyhow::Error, command: &args::Data, recipe: &Recipe) -> anyhow::Error {
    match error.downcast_ref::<NotRun>() {
        Some(NotRun { stage }) => {
            let Hinted { hint, .. } = load::not_run(&command.recipe, recipe, stage);
            let message = format!("what `{}` is given can't be shown before `{stage}` has run", command.stage);
            Hinted { message, hint }.into()
        }
        None => error,
    }
}
