//! Walks a stage's values together with the schema: which fields name files or stages, and what enters the key.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use globset::GlobBuilder;
use serde_json::{Map, Value as Json};

pub use super::shape::FileKind;
use super::{
    Catalog,
    beside::is_beside,
    shape::{Role, Shape, Slot},
};
use crate::spec::{Product, Stage};

/// A field that names files.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct FileField {
    /// Where it is in the stage's spec, such as `corpus.0.path`.
    pub pointer: String,
    /// The path or glob, as the recipe gives it; see [`resolve_path`] and [`resolve_place`].
    pub pattern: String,
    /// What it names.
    pub kind: FileKind,
}

/// A field that refers to another stage.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct StageField {
    /// Where it is in the stage's spec, such as `from`.
    pub pointer: String,
    /// The stage it names.
    pub name: String,
    /// What the stage that it names has to make.
    pub product: Product,
}

/// The files that a stage reads.
pub fn file_fields(catalog: &Catalog, stage: &Stage) -> Vec<FileField> {
    let mut fields = Vec::new();
    visit_stage(catalog, stage, &mut |pointer, value, slot| {
        if let (Some(kind), Some(pattern)) = (slot.role.file_kind(), value.as_str()) {
            fields.push(FileField { pointer: pointer.into(), pattern: pattern.into(), kind });
        }
    });
    fields
}

/// The stages that a stage builds on.
pub fn stage_fields(catalog: &Catalog, stage: &Stage) -> Vec<StageField> {
    let mut fields = Vec::new();
    visit_stage(catalog, stage, &mut |pointer, value, slot| {
        if let (Role::Stage(product), Some(name)) = (&slot.role, value.as_str()) {
            fields.push(StageField { pointer: pointer.into(), name: name.into(), product: *product });
        }
    });
    fields
}

/// The part of a spec that its output depends on, for hashing: without files' and stages' names (their content counts),
/// without what can't change the output, and without what equals its default.
pub fn canonical(catalog: &Catalog, stage: &Stage) -> Json {
    let (spec, slot) = spec_of(catalog, stage);
    kept(spec, slot, false)
}

/// As [`canonical`], but with defaults: what `pipe why` compares field by field.
pub fn described(catalog: &Catalog, stage: &Stage) -> Json {
    let (spec, slot) = spec_of(catalog, stage);
    kept(spec, slot, true)
}

/// The spec inside a stage, and its slot.
pub(super) fn spec_of<'c>(catalog: &'c Catalog, stage: &Stage) -> (Json, &'c Slot) {
    let slot = catalog.stage().child(&stage.kind).unwrap_or_else(|| catalog.stage());
    (stage.settings.clone(), slot)
}

fn visit_stage(catalog: &Catalog, stage: &Stage, found: &mut dyn FnMut(&str, &Json, &Slot)) {
    let (spec, slot) = spec_of(catalog, stage);
    visit(&spec, slot, &mut String::new(), found);
}

/// Calls `found` with the pointer, the value and the slot of everything below a value, itself first. What the schema
/// doesn't know is passed over.
pub(super) fn visit(value: &Json, slot: &Slot, pointer: &mut String, found: &mut dyn FnMut(&str, &Json, &Slot)) {
    let slot = slot.meant(value.is_string());
    found(pointer, value, slot);
    let mut below = |key: &str, value: &Json| {
        if let Some(slot) = slot.child(key) {
            let length = pointer.len();
            push(pointer, key);
            visit(value, slot, pointer, found);
            pointer.truncate(length);
        }
    };
    match value {
        Json::Object(map) => map.iter().for_each(|(key, value)| below(key, value)),
        Json::Array(items) => items.iter().enumerate().for_each(|(index, value)| below(&index.to_string(), value)),
        _ => {}
    }
}

/// Goes one key down.
pub(super) fn push(pointer: &mut String, key: &str) {
    if !pointer.is_empty() {
        pointer.push('.');
    }
    pointer.push_str(key);
}

/// A spec without names of files and stages, free fields and, if asked for, defaults.
pub(super) fn kept(value: Json, slot: &Slot, defaults: bool) -> Json {
    let named = |role: &Role| role.is_name() || *role == Role::Free;
    let slot = slot.meant(value.is_string());
    match (value, &slot.shape) {
        // A variant whose payload is a name: the tag remains.
        (Json::Object(map), Shape::Choice(_)) => {
            let mut left = Map::new();
            for (tag, payload) in map {
                match slot.child(&tag) {
                    Some(slot) if named(&slot.role) => return Json::String(tag),
                    Some(slot) => left.insert(tag, kept(payload, slot, defaults)),
                    None => left.insert(tag, payload),
                };
            }
            Json::Object(left)
        }
        (Json::Object(map), _) => map
            .into_iter()
            .filter_map(|(key, value)| match slot.child(&key) {
                Some(field) if named(&field.meant(value.is_string()).role) => None,
                Some(field) if !defaults && field.default.as_ref() == Some(&value) => None,
                Some(field) => Some((key, kept(value, field, defaults))),
                None => Some((key, value)),
            })
            .collect::<Map<_, _>>()
            .into(),
        (Json::Array(items), Shape::List { item, .. }) => {
            items.into_iter().map(|value| kept(value, item, defaults)).collect()
        }
        (value, _) => value,
    }
}

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

/// The file or directory that a field names, looked for as by [`resolve_path`]; None if there's nothing.
pub fn resolve_place(path: &str, recipe_dir: &Path) -> Option<PathBuf> {
    [recipe_dir, Path::new("")].iter().map(|base| base.join(path)).find(|place| !path.is_empty() && place.exists())
}

/// Whether a path has characters of a glob.
pub(super) fn is_glob(pattern: &str) -> bool {
    pattern.contains(['*', '?', '[', '{'])
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
    let base: PathBuf = pattern.iter().take_while(|part| !is_glob(&part.to_string_lossy())).collect();
    let rest: PathBuf = pattern.iter().skip(base.iter().count()).collect();
    let rest = rest.to_string_lossy();
    let glob = GlobBuilder::new(&rest).literal_separator(true).build();
    let glob = glob.with_context(|| format!("the glob `{rest}` is wrong"))?.compile_matcher();
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
