//! What stages read goes into the store, once, under what it holds: `inputs/DIGEST/NAME`. So a job needs nothing of the file
//! system that the run was submitted on.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use fs_err as fs;
use parking_lot::Mutex;

use super::run_plan::RunStage;
use crate::engine::{
    remote::Remote,
    store::{DigestCache, FileRecord, atomic},
};

/// The folder in the store.
const FOLDER: &str = "inputs";

/// Where the store has what a field of a stage names, and each file with its place.
struct Kept {
    field: String,
    named: Vec<PathBuf>,
    /// The files of a directory, of which some alone are read.
    parts: Option<Vec<PathBuf>>,
    files: Vec<(PathBuf, PathBuf)>,
}

fn kept(stage: &RunStage, digests: &Mutex<DigestCache>) -> Result<Vec<Kept>> {
    let mut all = Vec::new();
    for (field, paths) in &stage.node.files {
        let field = field.clone();
        all.push(match (stage.node.parts.get(&field), paths.as_slice()) {
            (Some(parts), [directory]) => {
                let digest = digests.lock().named(parts)?;
                let place = Path::new(FOLDER).join(digest).join(directory.file_name().unwrap_or_default());
                let to: Vec<PathBuf> =
                    parts.iter().map(|part| place.join(part.strip_prefix(directory).unwrap_or(part))).collect();
                let files = parts.iter().cloned().zip(to.iter().cloned()).collect();
                Kept { field, named: vec![place], parts: Some(to), files }
            }
            _ => {
                let place = |path: &PathBuf| {
                    let digest = digests.lock().digest(path)?;
                    // What a file is depends on how its name ends.
                    Ok(Path::new(FOLDER).join(digest).join(path.file_name().unwrap_or_default()))
                };
                let named = paths.iter().map(place).collect::<Result<Vec<_>>>()?;
                let files = paths.iter().cloned().zip(named.iter().cloned()).collect();
                Kept { field, named, parts: None, files }
            }
        });
    }
    Ok(all)
}

/// Who is given what stages read.
#[derive(Clone, Copy)]
pub(super) enum Keeper<'a> {
    /// The store that machines see.
    Store(&'a Path),
    /// The remote, from which each brings it into a store of its own.
    Remote(&'a Remote),
}

/// Gives a copy of each file that a stage reads to whoever keeps it, unless it's there, and names it in the files' place.
///
/// # Errors
/// If a file can't be read, or the copy not be written.
pub(super) fn keep(stage: &mut RunStage, keeper: Keeper<'_>, digests: &Mutex<DigestCache>) -> Result<()> {
    for Kept { field, named, parts, files } in kept(stage, digests)? {
        for (from, to) in &files {
            match keeper {
                Keeper::Store(store) => copy(from, store, to)?,
                Keeper::Remote(remote) => {
                    let digest = digests.lock().digest(from)?;
                    let path = to.to_string_lossy().into_owned();
                    let file = FileRecord { path, bytes: fs::metadata(from)?.len(), digest };
                    remote.give(from, &file)?;
                    stage.inputs.push(file);
                }
            }
        }
        if let Some(parts) = parts {
            stage.node.parts.insert(field.clone(), parts);
        }
        stage.node.files.insert(field, named);
    }
    Ok(())
}

/// The files that a stage reads and the store has no copy of: where they would be, and their bytes.
///
/// # Errors
/// If a file can't be read.
pub(super) fn lacking(stage: &RunStage, store: &Path, digests: &Mutex<DigestCache>) -> Result<Vec<(PathBuf, u64)>> {
    let files = kept(stage, digests)?.into_iter().flat_map(|kept| kept.files);
    let lacking = files.filter(|(_, to)| !store.join(to).exists());
    lacking.map(|(from, to)| Ok((to, fs::metadata(from)?.len()))).collect()
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
