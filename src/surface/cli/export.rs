//! `pipe export`.

use anyhow::{Result, ensure};
use fs_err as fs;

use super::{
    args::Export,
    console,
    exit::{self, DONE},
    load,
};
use crate::{
    network::{
        checkpoint::{self, ADAPTER, ADAPTER_FOLDER},
        model,
    },
    spec::Product,
};

/// What can be copied.
const MODELS: load::Needs = load::Needs::Product(&[Product::Model, Product::Checkpoint]);

/// `pipe export RECIPE STAGE DIR`: copies a stage's model out of the store, in Hugging Face's layout. An existing file is
/// never overwritten.
pub(super) fn export(command: &Export, store: &std::path::Path, remote: Option<&str>) -> Result<u8> {
    let (_, artifact) = load::stored(&command.recipe, &command.stage, MODELS, store, remote)?;
    // An adapter stays in its folder: beside the model's own files, transformers would add it to the model on loading.
    let to = |file: &std::path::Path| match file.strip_prefix(&artifact.path) {
        Ok(place) => command.dir.join(place),
        Err(_) => command.dir.join(file.file_name().unwrap_or_default()),
    };
    let files = checkpoint::files(&artifact.path);
    for file in &files {
        let target = to(file);
        ensure!(!target.exists(), "{} already exists: name another directory, or remove it", target.display());
    }
    exit::work_begins();
    fs::create_dir_all(&command.dir)?;
    for file in &files {
        let target = to(file);
        fs::create_dir_all(target.parent().unwrap_or(&command.dir))?;
        fs::copy(file, &target)?;
        console::print(&target.display().to_string())?;
    }
    let adapter = command.dir.join(ADAPTER_FOLDER);
    if adapter.join(ADAPTER).is_file() {
        model::settle(&adapter, &command.dir)?;
    }
    Ok(DONE)
}
