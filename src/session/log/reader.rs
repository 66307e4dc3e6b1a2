//! Reading the files of runs.

use std::{
    collections::BTreeSet,
    path::{Path, PathBuf},
};

use anyhow::Result;
use fs_err as fs;

use super::{event::Line, summary::Summary};
use crate::engine::store::Store;

/// What a run's file holds.
#[derive(Clone, Debug)]
pub struct RunFile {
    /// The run's name: the file's without its ending.
    pub id: String,
    /// The file.
    pub path: PathBuf,
    /// Its lines, in the order in which they were written.
    pub lines: Vec<Line>,
    /// Lines that this program doesn't understand: a later version's, or the end of one that was cut off.
    pub passed_over: usize,
}

impl RunFile {
    /// Reads a file.
    ///
    /// # Errors
    /// If it can't be read; whatever is in it is none.
    pub fn read(path: &Path) -> Result<Self> {
        let text = fs::read(path)?;
        let (mut lines, mut passed_over) = (Vec::new(), 0);
        for line in text.split(|&byte| byte == b'\n').filter(|line| !line.is_empty()) {
            match serde_json::from_slice(line) {
                Ok(line) => lines.push(line),
                Err(_) => passed_over += 1,
            }
        }
        let id = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        Ok(Self { id, path: path.to_owned(), lines, passed_over })
    }
}

/// The last run of a recipe with what became of it: that of a file of this name, in which a stage had one of these keys.
/// Where the recipe lay and which other stages it had then doesn't matter, but a run before all of them changed isn't told.
///
/// # Errors
/// If the logs can't be read.
pub fn last_of(store: &Store, recipe: &Path, keys: &BTreeSet<&str>) -> Result<Option<(RunFile, Summary)>> {
    for file in runs(store)? {
        let run = RunFile::read(&file)?;
        let summary = Summary::of(&run.lines);
        let name = summary.begun.as_ref().and_then(|begun| Path::new(&begun.recipe).file_name());
        let has_key = || summary.stages.values().filter_map(|stage| stage.key.as_deref()).any(|key| keys.contains(key));
        if name.is_some_and(|name| recipe.file_name() == Some(name)) && has_key() {
            return Ok(Some((run, summary)));
        }
    }
    Ok(None)
}

/// The files of a store's runs, the last one first.
///
/// # Errors
/// If the folder can't be read.
pub fn runs(store: &Store) -> Result<Vec<PathBuf>> {
    let entries = match std::fs::read_dir(store.log()) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries?,
    };
    let files = entries.map(|entry| Ok(entry?.path())).collect::<Result<Vec<PathBuf>>>()?;
    let mut files: Vec<_> =
        files.into_iter().filter(|file| file.extension().is_some_and(|extension| extension == "jsonl")).collect();
    files.sort();
    files.reverse();
    Ok(files)
}
