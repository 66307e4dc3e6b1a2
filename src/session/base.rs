//! A recipe as it is in another commit, with its data, for comparing with it. It's read from git into a folder of its own:
//! files that are the same now are links to those of the working tree, others are what git has of them.

use std::{
    fmt,
    path::{Component, Path, PathBuf},
};

use anyhow::{Context, Result, bail};
use fs_err as fs;

use super::{
    Recipe,
    git::{Entry, Repository},
};
use crate::{
    recipe::{
        Document, Overrides,
        paths::{matcher, resolve_path, split},
    },
    stages::catalog,
    support::{Hinted, explained},
};

/// How the files begin that stand for large ones (<https://github.com/git-lfs/git-lfs/blob/main/docs/spec.md>).
const POINTER: &str = "version https://git-lfs.github.com/spec/";

/// None is larger.
const LONGEST_POINTER: u64 = 1024;

/// The commit to compare with.
#[derive(Clone, Debug)]
pub struct Base {
    repository: Repository,
    /// As it was asked for.
    pub revision: String,
    /// Its name.
    pub commit: String,
}

/// What the base has of a recipe.
pub enum InBase {
    /// Nothing: it's new.
    Nothing,
    /// Nothing that can be compared with, for this reason.
    Unusable(String),
    /// The recipe.
    There(Box<BaseRecipe>),
}

/// A recipe as the base has it.
pub struct BaseRecipe {
    /// The recipe.
    pub recipe: Recipe,
    /// Data that git doesn't have, so that it's taken to be the same there.
    pub unchanged: Vec<Unchanged>,
    _copy: tempfile::TempDir,
}

/// A file or folder that is taken to be the same in the base.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Unchanged {
    /// From the repository's root, or the whole path of what is outside.
    pub path: PathBuf,
    /// Why nothing else is known.
    pub why: &'static str,
}

impl fmt::Display for Unchanged {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({})", self.path.display(), self.why)
    }
}

impl Base {
    /// A commit of the repository that a recipe is in; it's fetched if need be.
    ///
    /// # Errors
    /// If there is no repository or no such commit.
    pub fn open(recipe: &Path, revision: &str) -> Result<Self> {
        let repository = Repository::of(recipe.parent().unwrap_or(Path::new("")))?;
        let commit = repository.commit(revision)?;
        Ok(Self { repository, revision: revision.to_owned(), commit })
    }

    /// A recipe, which is named by where it lies now.
    ///
    /// # Errors
    /// If it isn't in the repository, or git or the file system fails.
    pub fn recipe(&self, path: &Path, overrides: &Overrides) -> Result<InBase> {
        let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
        let dir = fs::canonicalize(parent)?;
        let file = dir.join(path.file_name().context("a recipe is a file")?);
        let Ok(within) = file.strip_prefix(&self.repository.root) else {
            let root = self.repository.root.display();
            bail!("{} isn't in the repository {root}, whose base was asked for", path.display());
        };
        let Some(text) = self.repository.contents(&self.commit, within)? else { return Ok(InBase::Nothing) };
        let Ok(text) = String::from_utf8(text) else { return Ok(InBase::Unusable("the recipe isn't UTF-8".into())) };
        let document = match Document::parse(path, &text, catalog()) {
            Ok(document) => document,
            Err(mistakes) => return Ok(InBase::Unusable(first(&mistakes.into()))),
        };
        let copy = tempfile::tempdir()?;
        let mut mirror = Mirror { base: self, dir: &dir, copy: copy.path(), unchanged: Vec::new() };
        let file = mirror.place(&file);
        mirror.make_room(&file)?;
        fs::write(&file, &text)?;
        for pattern in document.files(overrides) {
            if let Some(obstacle) = mirror.bring(&pattern)? {
                return Ok(InBase::Unusable(obstacle));
            }
        }
        let Mirror { mut unchanged, .. } = mirror;
        unchanged.sort_by(|a, b| a.path.cmp(&b.path));
        unchanged.dedup();
        Ok(match Recipe::read(&file, overrides.clone()) {
            Ok(recipe) => InBase::There(Box::new(BaseRecipe { recipe, unchanged, _copy: copy })),
            Err(error) => InBase::Unusable(first(&error)),
        })
    }
}

/// The first of a recipe's mistakes, or whatever else is wrong with it.
fn first(error: &anyhow::Error) -> String {
    let mistakes = error.downcast_ref::<crate::recipe::Diagnostics>();
    let first = mistakes.and_then(|mistakes| mistakes.list().first()).map(|mistake| mistake.message.clone());
    format!("this program can't read the recipe as it is there: {}", first.unwrap_or_else(|| explained(error)))
}

/// What is put into the folder: under its whole path, so that `..` leads where it should.
struct Mirror<'a> {
    base: &'a Base,
    /// The recipe's folder.
    dir: &'a Path,
    copy: &'a Path,
    unchanged: Vec<Unchanged>,
}

impl Mirror<'_> {
    /// Brings what a recipe names, which is looked for as [`resolve_path`] does; gives what keeps it from being the base's.
    fn bring(&mut self, pattern: &str) -> Result<Option<String>> {
        let (literal, rest) = split(Path::new(pattern));
        if literal.is_absolute() {
            self.unchanged.push(Unchanged { path: pattern.into(), why: "named by its whole path" });
            return Ok(None);
        }
        let to = self.place(&normal(&self.dir.join(&literal)));
        for folder in [self.dir.to_owned(), fs::canonicalize(".")?] {
            let at = normal(&folder.join(&literal));
            if let Ok(within) = at.strip_prefix(&self.base.repository.root) {
                let tracked = match self.tracked(within, &rest, &to)? {
                    Ok(tracked) => tracked,
                    Err(obstacle) => return Ok(Some(obstacle)),
                };
                let others = self.untracked(within, &files(&at, pattern, &folder), &to)?;
                if tracked || others {
                    break;
                }
            } else if at.exists() {
                self.link(&at, &to)?;
                self.unchanged.push(Unchanged { path: at, why: "outside of the repository" });
                break;
            }
        }
        Ok(None)
    }

    /// Brings what the base's commit has at or below a path, as far as it matches the rest of a pattern: whether that is
    /// anything, or what isn't here of it.
    fn tracked(&mut self, within: &Path, rest: &Path, to: &Path) -> Result<Result<bool, String>> {
        let Base { repository, commit, .. } = self.base;
        let glob = matcher(&rest.to_string_lossy())?;
        let below = |entry: &Entry| entry.path.strip_prefix(within).map(Path::to_owned).unwrap_or_default();
        let wanted = |entry: &Entry| rest.as_os_str().is_empty() || glob.is_match(below(entry));
        let entries: Vec<Entry> = repository.files(commit, within)?.into_iter().filter(wanted).collect();
        let changed = if entries.is_empty() { Default::default() } else { repository.changed(commit, within)? };
        for entry in &entries {
            let target = joined(to, &below(entry));
            let here = repository.root.join(&entry.path);
            if !changed.contains(&entry.path) || !entry.is_file {
                self.link(&here, &target)?;
                continue;
            }
            self.make_room(&target)?;
            repository.write(commit, &entry.path, &target)?;
            let Some(pointer) = pointer(&target)? else { continue };
            fs::remove_file(&target)?;
            if repository.contents("HEAD", &entry.path)?.is_some_and(|now| now == pointer.as_bytes()) {
                self.link(&here, &target)?;
                self.unchanged.push(Unchanged { path: entry.path.clone(), why: "git has a pointer to it (LFS)" });
            } else if let Some(file) = hash_of(&pointer).and_then(|hash| repository.large_file(hash)) {
                self.link(&file, &target)?;
            } else {
                let (path, revision) = (entry.path.display(), &self.base.revision);
                return Ok(Err(format!(
                    "{path} is another large file (LFS) there, which isn't here: `git lfs fetch origin {revision}`"
                )));
            }
        }
        Ok(Ok(!entries.is_empty()))
    }

    /// Brings those of these files that git doesn't track: whether there are any.
    fn untracked(&mut self, within: &Path, here: &[PathBuf], to: &Path) -> Result<bool> {
        if here.is_empty() {
            return Ok(false);
        }
        let repository = &self.base.repository;
        let tracked = repository.tracked(within)?;
        let mut any = false;
        for file in here {
            let Ok(path) = file.strip_prefix(&repository.root) else { continue };
            let target = joined(to, path.strip_prefix(within).unwrap_or(Path::new("")));
            // What the base has is there by now, and what came after it isn't the base's.
            if tracked.contains(path) || target.symlink_metadata().is_ok() {
                continue;
            }
            let why = if repository.ignores(path) { "ignored by git" } else { "not in git" };
            self.link(file, &target)?;
            self.unchanged.push(Unchanged { path: path.to_owned(), why });
            any = true;
        }
        Ok(any)
    }

    /// Where something lies in the folder.
    fn place(&self, path: &Path) -> PathBuf {
        let names = path.components().filter(|part| matches!(part, Component::Normal(_)));
        self.copy.join(names.collect::<PathBuf>())
    }

    fn make_room(&self, path: &Path) -> Result<()> {
        Ok(path.parent().map_or(Ok(()), fs::create_dir_all)?)
    }

    /// Lets something of the file system stand in the folder; of a directory that has to hold other things, too, what is in
    /// it. What isn't there any more stays away.
    fn link(&self, from: &Path, to: &Path) -> Result<()> {
        if to.is_dir() && !to.is_symlink() && from.is_dir() {
            for entry in fs::read_dir(from)? {
                let entry = entry?;
                self.link(&entry.path(), &to.join(entry.file_name()))?;
            }
            return Ok(());
        }
        if to.symlink_metadata().is_ok() || !from.exists() {
            return Ok(());
        }
        self.make_room(to)?;
        Ok(link(from, to)?)
    }
}

#[cfg(unix)]
fn link(from: &Path, to: &Path) -> std::io::Result<()> {
    fs_err::os::unix::fs::symlink(from, to)
}

#[cfg(windows)]
fn link(from: &Path, to: &Path) -> std::io::Result<()> {
    if from.is_dir() {
        std::os::windows::fs::symlink_dir(from, to)
    } else {
        // Without the right to make links it's another name, or a copy.
        fs::hard_link(from, to).or_else(|_| fs::copy(from, to).map(|_| ()))
    }
}

/// The files of the working tree that a pattern in a folder stands for, of which `at` is the fixed beginning.
fn files(at: &Path, pattern: &str, folder: &Path) -> Vec<PathBuf> {
    if at.is_dir() && folder.join(pattern).is_dir() {
        let walk = walkdir::WalkDir::new(at).into_iter().filter_map(Result::ok);
        return walk.filter(|entry| entry.path().is_file()).map(walkdir::DirEntry::into_path).collect();
    }
    let found = resolve_path(pattern, folder).unwrap_or_default();
    found.iter().map(|path| normal(&folder.join(path))).filter(|path| path.starts_with(at) && path.is_file()).collect()
}

/// A path without `.` and `..`, whatever is there.
fn normal(path: &Path) -> PathBuf {
    let mut normal = PathBuf::new();
    for part in path.components() {
        match part {
            Component::CurDir => {}
            Component::ParentDir => _ = normal.pop(),
            part => normal.push(part),
        }
    }
    normal
}

fn joined(to: &Path, below: &Path) -> PathBuf {
    if below.as_os_str().is_empty() { to.to_owned() } else { to.join(below) }
}

/// The text of a file that stands for a large one, if that's what it is.
fn pointer(file: &Path) -> Result<Option<String>> {
    let is_short = fs::metadata(file)?.len() <= LONGEST_POINTER;
    let text = if is_short { String::from_utf8(fs::read(file)?).ok() } else { None };
    Ok(text.filter(|text| text.starts_with(POINTER)))
}

fn hash_of(pointer: &str) -> Option<&str> {
    pointer.lines().find_map(|line| line.strip_prefix("oid sha256:"))
}

/// Refuses a recipe whose data isn't here: files in which Git LFS has left a pointer to them. A check of the recipe would
/// take them for data.
///
/// # Errors
/// The first of them; a recipe that can't be read.
pub fn check_pointers(recipe: &Path, overrides: &Overrides) -> Result<()> {
    let dir = recipe.parent().unwrap_or(Path::new(""));
    for pattern in Document::read(recipe, catalog())?.files(overrides) {
        for file in resolve_path(&pattern, dir).unwrap_or_default() {
            if pointer(&file)?.is_some() {
                let message = format!("{} is a pointer of Git LFS, and not the data", file.display());
                let hint = "`git lfs pull` brings it; for actions/checkout it's `lfs: true`";
                bail!(Hinted::with(message, hint.to_owned()));
            }
        }
    }
    Ok(())
}
