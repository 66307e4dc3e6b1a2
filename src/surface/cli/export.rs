//! `pipe export`.

use anyhow::{Result, ensure};
use fs_err as fs;

use super::{
    args::Export,
    console,
    exit::{self, Exit},
    load::{self, RemoteChoice},
};
use crate::{spec::Product, stages::TransformersFiles};

/// What can be copied.
const MODELS: load::Needs = load::Needs::Product(&[Product::Model, Product::Checkpoint]);

/// `pipe export RECIPE STAGE DIR`: writes a stage's model in Hugging Face's layout, with what the store knows of it. An
/// existing file is never overwritten.
pub(super) fn export(command: &Export, store: &std::path::Path, remote: Option<RemoteChoice<'_>>) -> Result<Exit> {
    let (_, artifact) = load::stored(&command.recipe, &command.stage, MODELS, store, remote)?;
    let shared = TransformersFiles::of(&artifact, command.weights)?;
    for name in shared.names() {
        let target = command.dir.join(name);
        ensure!(!target.exists(), "{} already exists: name another directory, or remove it", target.display());
    }
    let notes = shared.notes()?;
    exit::work_begins();
    fs::create_dir_all(&command.dir)?;
    shared.write(&command.dir)?;
    for file in shared.names().into_iter().map(|name| command.dir.join(name)).filter(|file| file.exists()) {
        console::print(&file.display().to_string())?;
    }
    notes.iter().for_each(|note| console::eprint_line(&format!("note: {note}")));
    Ok(Exit::Done)
}
