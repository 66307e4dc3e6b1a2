//! From the command line to trackers: TensorBoard's files and an MLflow server.

use std::{path::PathBuf, sync::Arc};

use anyhow::{Context, Result};
use fs_err as fs;
use serde_json::Value;

use super::{args, console};
use crate::{
    session::{Recipe, Session},
    surface::tracking::{EventFiles, Subject, Tracking},
};

/// The trackers of a run that is about to begin.
///
/// # Errors
/// If there can't be files for TensorBoard where the command line wants them.
pub(super) fn start(
    recipe: &args::Recipe,
    running: &args::RunOptions,
    settings: Vec<(String, Value)>,
    read: &Recipe,
    session: &Session,
) -> Result<Tracking> {
    let board = match &running.tensorboard {
        None => EventFiles::InStore(session.store().tensorboard()),
        Some(dir) if dir.is_empty() => EventFiles::Nowhere,
        Some(dir) => {
            let dir = PathBuf::from(dir);
            fs::create_dir_all(&dir).context("--tensorboard: there can't be files for TensorBoard")?;
            EventFiles::In(dir)
        }
    };
    let subject = Subject { recipe: recipe.recipe.clone(), provenance: read.provenance(), settings };
    Ok(Tracking::start(&subject, board, session.remote().cloned(), Arc::new(console::eprint_line)))
}
