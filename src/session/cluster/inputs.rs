//! What stages read goes into the store, once, under what it holds: `inputs/DIGEST/NAME`. So a job needs nothing of the file
//! system that the run was submitted on.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use fs_err as fs;
use parking_lot::Mutex;

use super::run_plan::RunStage;
use crate::engine::store::{DigestCache, atomic};

/// The folder in the store.
const FOLDER: &str = "inputs";

/// Gives the store a copy of each file that a stage reads, unless it has one, and puts these in the files' place.
///
/// # Errors
/// If a file can't be read, or the store not be written.
pub(super) fn keep(stage: &mut RunStage, store: &Path, digests: &Mutex<DigestCache>) -> Result<()> {
    let (files, parts) = (stage.node.files.clone(), stage.node.parts.clone());
    for (field, paths) in &files {
        let kept = match (parts.get(field), paths.as_slice()) {
            (Some(parts), [directory]) => {
                let digest = digests.lock().named(parts)?;
                let place = Path::new(FOLDER).join(digest).join(directory.file_name().unwrap_or_default());
                let kept = parts.iter().map(|part| {
                    let to = place.join(part.strip_prefix(directory).unwrap_or(part));
                    copy(part, store, &to).map(|()| to)
                });
                let kept = kept.collect::<Result<Vec<_>>>()?;
                stage.node.parts.insert(field.clone(), kept);
                vec![place]
            }
            _ => {
                let one = |path: &PathBuf| {
                    let digest = digests.lock().digest(path)?;
                    // What a file is depends on how its name ends.
                    let to = Path::new(FOLDER).join(digest).join(path.file_name().unwrap_or_default());
                    copy(path, store, &to).map(|()| to)
                };
                paths.iter().map(one).collect::<Result<Vec<_>>>()?
            }
        };
        stage.node.files.insert(field.clone(), kept);
    }
    Ok(())
}

/// Names the files of a stage as every machine does.
///
/// # Errors
/// If one isn't there any more.
pub(super) fn in_place(stage: &mut RunStage) -> Result<()> {
    for path in stage.node.files.values_mut().chain(stage.node.parts.values_mut()).flatten() {
        *path = std::path::absolute(&*path)?;
    }
    Ok(())
}

/// Copies a file to a place in the store, whole or not at all.
fn copy(from: &Path, store: &Path, to: &Path) -> Result<()> {
    let to = store.join(to);
    let folder = to.parent().context("a file lies in a folder")?;
    fs::create_dir_all(folder)?;
    if to.exists() {
        // It's of use again, as `pipe gc` sees it.
        let _ = std::fs::File::open(folder).and_then(|folder| folder.set_modified(std::time::SystemTime::now()));
        return Ok(());
    }
    atomic::copy(from, &to, 0o644)
}
