//! What the names of files in recipes stand for: files, directories and globs, looked for in the recipe's folder and then in
//! the working directory, or in a data set on a hub.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};
use globset::{GlobBuilder, GlobMatcher};

use super::{beside::is_beside, suggest};
use crate::{
    hub::{self, Reference, Snapshot, Wanted},
    support::Hinted,
};

/// So many names of a data set's files are told at most.
const SHOWN: usize = 8;

/// The files that a `path` field stands for, in the order of their names: a file, the files in a directory, or those
/// that match a glob, but for those that aren't data and only lie beside some: markers, checksums, readmes, hidden files.
/// A file that is named itself is data whatever its name. Relative paths are looked for in the recipe's folder, then in the
/// working directory. Files of a data set on a hub are those that are here of it; see [`fetch_data`].
///
/// # Errors
/// If there's no such file, or the glob or a directory cannot be read.
pub fn resolve_path(pattern: &str, recipe_dir: &Path) -> Result<Vec<PathBuf>> {
    if let Some(data) = Reference::of_data(pattern) {
        let (reference, path) = data?;
        let here = hub::cached(&reference).map_or(Ok(Vec::new()), |snapshot| found(path, &snapshot.directory))?;
        ensure!(!here.is_empty(), not_in(&reference, path));
        return Ok(here);
    }
    for base in [recipe_dir, Path::new("")] {
        let found = found(pattern, base)?;
        if !found.is_empty() {
            return Ok(found);
        }
    }
    if is_glob(pattern) { bail!("no file matches `{pattern}`") } else { bail!("no file `{pattern}`") }
}

/// The files that a path or glob stands for in a folder.
fn found(pattern: &str, base: &Path) -> Result<Vec<PathBuf>> {
    let path = base.join(pattern);
    match std::fs::metadata(&path) {
        Ok(metadata) if metadata.is_dir() => in_directory(&path),
        Ok(_) => Ok(vec![path]),
        Err(_) if is_glob(pattern) => matches(&path),
        Err(_) => Ok(Vec::new()),
    }
}

/// Sees to it that the files are here which a pattern stands for, where that are files of a data set on a hub.
///
/// # Errors
/// What [`hub::fetch`] says.
pub fn fetch_data(pattern: &str) -> Result<Option<(Reference, Snapshot)>> {
    let Some((reference, path)) = Reference::of_data(pattern).transpose()? else { return Ok(None) };
    let glob = Glob::new(path)?;
    let takes = |name: &str| {
        let in_folder = || name.strip_prefix(path).and_then(|rest| rest.strip_prefix('/'));
        name == path
            || glob.takes(Path::new(name))
            || in_folder().is_some_and(|name| !name.contains('/') && !is_beside(name))
    };
    let snapshot = hub::fetch(&reference, Wanted::Files(&takes))?;
    Ok(Some((reference, snapshot)))
}

/// That a data set has no such file, and which it has.
fn not_in(reference: &Reference, path: &str) -> Hinted {
    let message = match is_glob(path) {
        true => format!("no file of {reference} matches `{path}`"),
        false => format!("{reference} has no file `{path}`"),
    };
    let names: Vec<String> = hub::names(reference).into_iter().filter(|name| !is_beside(file_name(name))).collect();
    let hint = match (suggest::nearest(path, names.iter().map(String::as_str)), names.len()) {
        (_, 0) => None,
        (Some(near), _) if !is_glob(path) => Some(format!("did you mean `{near}`?")),
        (_, ..=SHOWN) => Some(format!("it has {}", names.join(", "))),
        (_, count) => Some(format!("it has {} and {} more", names[..SHOWN].join(", "), count - SHOWN)),
    };
    Hinted::new(message, hint)
}

/// The last part of a path with slashes.
fn file_name(path: &str) -> &str {
    path.rsplit('/').next().unwrap_or(path)
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

/// The data files that match a glob; hidden ones and markers only if it says so, by a `.` or `_` that a part of it begins
/// with. Only directories below its fixed beginning are read, and only as deep as it goes.
fn matches(pattern: &Path) -> Result<Vec<PathBuf>> {
    let (base, rest) = split(pattern);
    let rest = rest.to_string_lossy();
    let glob = Glob::new(&rest)?;
    let base = if base.as_os_str().is_empty() { PathBuf::from(".") } else { base };
    if !base.is_dir() {
        return Ok(Vec::new());
    }
    let depth = if rest.contains("**") { usize::MAX } else { rest.split('/').count() };
    let walk = walkdir::WalkDir::new(&base).follow_links(true).max_depth(depth).sort_by_file_name();
    let seen = walk.into_iter().filter_entry(|entry| entry.depth() == 0 || glob.enters(entry.file_name()));
    let mut files = Vec::new();
    for entry in seen {
        let entry = entry?;
        let within = entry.path().strip_prefix(&base).unwrap_or(entry.path());
        if entry.file_type().is_file() && glob.takes(within) {
            files.push(if base == Path::new(".") { within.to_path_buf() } else { entry.path().to_path_buf() });
        }
    }
    files.sort();
    Ok(files)
}

/// A glob, and whether it means files that otherwise aren't data.
struct Glob {
    matcher: GlobMatcher,
    hidden: bool,
    marked: bool,
}

impl Glob {
    fn new(glob: &str) -> Result<Self> {
        Ok(Self {
            matcher: matcher(glob)?,
            hidden: glob.split('/').any(|part| part.starts_with('.')),
            marked: file_name(glob).starts_with(['.', '_']),
        })
    }

    /// Whether files in a folder of this name, or a file of it, may be meant.
    fn enters(&self, name: &OsStr) -> bool {
        self.hidden || !name.to_string_lossy().starts_with('.')
    }

    /// Whether a file is meant, by its path below the folder that the glob is for.
    fn takes(&self, within: &Path) -> bool {
        let is_data = || within.file_name().is_some_and(|name| self.marked || !is_beside(&name.to_string_lossy()));
        self.matcher.is_match(within) && within.iter().all(|part| self.enters(part)) && is_data()
    }
}
