//! What the names of files in recipes stand for: files, directories and globs, looked for in the recipe's folder and then in
//! the working directory.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use globset::{GlobBuilder, GlobMatcher};

use super::beside::is_beside;
use crate::hub::{self, Reference};

/// The files that a `path` field stands for, in the order of their names: a file, the files in a directory, or those
/// that match a glob, but for those that aren't data and only lie beside some: markers, checksums, readmes, hidden files.
/// A file that is named itself is data whatever its name. Relative paths are looked for in the recipe's folder, then in the working directory.
///
/// # Errors
/// If there's no such file, or the glob or a directory cannot be read.
pub fn resolve_path(pattern: &str, recipe_dir: &Path) -> Result<Vec<PathBuf>> {
    for base in [recipe_dir, Path::new("")] {
        let path = base.join(pattern);
        let found = match std::fs::metadata(&path) {
            Ok(metadata) if metadata.is_dir() => in_directory(&path)?,
            Ok(_) => return Ok(vec![path]),
            Err(_) if is_glob(pattern) => matches(&path)?,
            Err(_) => continue,
        };
        if !found.is_empty() {
            return Ok(found);
        }
    }
    if is_glob(pattern) { bail!("no file matches `{pattern}`") } else { bail!("no file `{pattern}`") }
}

/// The file or directory that a field names, looked for as by [`resolve_path`], or what is in the cache of a model on a hub;
/// None if there's nothing.
pub fn resolve_place(path: &str, recipe_dir: &Path) -> Option<PathBuf> {
    if let Some(reference) = Reference::of_place(path) {
        return hub::cached(&reference.ok()?).map(|snapshot| snapshot.directory);
    }
    [recipe_dir, Path::new("")].iter().map(|base| base.join(path)).find(|place| !path.is_empty() && place.exists())
}

/// Whether a path has characters of a glob.
pub(super) fn is_glob(pattern: &str) -> bool {
    pattern.contains(['*', '?', '[', '{'])
}

/// A path's fixed beginning, and the rest, which begins with a part that is a glob; that is empty if none is.
pub fn split(pattern: &Path) -> (PathBuf, PathBuf) {
    let base: PathBuf = pattern.iter().take_while(|part| !is_glob(&part.to_string_lossy())).collect();
    let rest = pattern.iter().skip(base.iter().count()).collect();
    (base, rest)
}

/// What tells whether a path matches a glob.
///
/// # Errors
/// If it's no glob.
pub fn matcher(glob: &str) -> Result<GlobMatcher> {
    let built = GlobBuilder::new(glob).literal_separator(true).build();
    Ok(built.with_context(|| format!("the glob `{glob}` is wrong"))?.compile_matcher())
}

/// The data files of one directory, sorted.
fn in_directory(path: &Path) -> Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    for entry in fs_err::read_dir(path)? {
        let entry = entry?;
        let path = entry.path();
        if !is_beside(&entry.file_name().to_string_lossy()) && path.is_file() {
            files.push(path);
        }
    }
    files.sort();
    Ok(files)
}

fn is_hidden(name: &OsStr) -> bool {
    name.to_string_lossy().starts_with('.')
}

/// The data files that match a glob; hidden ones and markers only if it says so, by a `.` or `_` that a part of it begins
/// with. Only directories below its fixed beginning are read, and only as deep as it goes.
fn matches(pattern: &Path) -> Result<Vec<PathBuf>> {
    let (base, rest) = split(pattern);
    let rest = rest.to_string_lossy();
    let glob = matcher(&rest)?;
    let base = if base.as_os_str().is_empty() { PathBuf::from(".") } else { base };
    if !base.is_dir() {
        return Ok(Vec::new());
    }
    let depth = if rest.contains("**") { usize::MAX } else { rest.split('/').count() };
    let hidden = rest.split('/').any(|part| part.starts_with('.'));
    let marked = rest.rsplit('/').next().is_some_and(|part| part.starts_with(['.', '_']));
    let walk = walkdir::WalkDir::new(&base).follow_links(true).max_depth(depth).sort_by_file_name();
    let seen = walk.into_iter().filter_entry(|entry| hidden || entry.depth() == 0 || !is_hidden(entry.file_name()));
    let mut files = Vec::new();
    for entry in seen {
        let entry = entry?;
        let within = entry.path().strip_prefix(&base).unwrap_or(entry.path());
        let is_data = marked || !is_beside(&entry.file_name().to_string_lossy());
        if entry.file_type().is_file() && is_data && glob.is_match(within) {
            files.push(if base == Path::new(".") { within.to_path_buf() } else { entry.path().to_path_buf() });
        }
    }
    files.sort();
    Ok(files)
}
