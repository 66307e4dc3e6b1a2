//! Names in `tmp/`. Every lease has names of its own, so that a holder which lost its lease and doesn't know can't write
//! to what the new holder has.
//!
//! ```text
//! KEY.TOKEN          the slot
//! KEY.TOKEN.state…   state to resume from after a crash
//! KEY.TOKEN.old      what the slot replaces, for an instant
//! KEY.TOKEN.gone     what is being removed
//! ```

use std::{
    path::{Path, PathBuf},
    time::SystemTime,
};

use anyhow::Result;
use fs_err as fs;

use super::check::is_digest;

/// What begins the last part of a state's name.
const STATE: &str = "state";
/// The last part of the name of what a slot replaces.
const OLD: &str = "old";

/// The directories in `tmp/` of one lease.
#[derive(Clone, Debug)]
pub(super) struct Workspace {
    tmp: PathBuf,
    key: String,
    token: String,
}

/// An entry of `tmp/`.
#[derive(Debug)]
pub(super) struct Entry {
    pub(super) path: PathBuf,
    pub(super) key: String,
    token: String,
    /// What follows the token.
    rest: String,
}

impl Entry {
    fn parse(path: PathBuf) -> Option<Self> {
        let name = path.file_name()?.to_str()?;
        let (key, rest) = name.split_once('.').unwrap_or((name, ""));
        // Format 1 had no tokens.
        let is_token = rest.len() >= 16 && rest.as_bytes()[..16].iter().all(u8::is_ascii_hexdigit);
        let (token, rest) = if is_token { rest.split_at(16) } else { ("", rest) };
        let rest = rest.strip_prefix('.').unwrap_or(rest).to_owned();
        // Whatever else is there is not the store's.
        let is_ours = is_digest(key) && (rest.starts_with(STATE) || ["", OLD, "gone"].contains(&&*rest));
        let is_link = path.symlink_metadata().ok()?.is_symlink();
        (is_ours && !is_link).then(|| Self { key: key.to_owned(), token: token.to_owned(), rest, path: path.clone() })
    }

    /// Whether it's an artifact that was set aside to be replaced.
    fn is_old(&self) -> bool {
        self.rest == OLD
    }

    /// Whether it belongs to a resumable state.
    pub(super) fn is_state(&self) -> bool {
        self.rest.starts_with(STATE)
    }

    /// When it was last written to; of a directory, when something in it was.
    pub(super) fn modified(&self) -> Option<SystemTime> {
        modified(&self.path)
    }
}

/// When a file was last written to; of a directory, when something in it was.
pub(super) fn modified(path: &Path) -> Option<SystemTime> {
    let entries = walkdir::WalkDir::new(path).into_iter().flatten();
    entries.filter_map(|entry| entry.metadata().ok()?.modified().ok()).max()
}

/// All entries of `tmp/`.
pub(super) fn entries(tmp: &Path) -> Result<Vec<Entry>> {
    if !tmp.exists() {
        return Ok(Vec::new());
    }
    let paths = fs::read_dir(tmp)?.map(|entry| Ok(entry?.path())).collect::<Result<Vec<_>>>()?;
    Ok(paths.into_iter().filter_map(Entry::parse).collect())
}

impl Workspace {
    /// Takes over what others left of the key in `tmp/`: the newest state, unless it's not wanted; the rest is removed.
    ///
    /// # Errors
    /// The file system's.
    pub(super) fn take_over(tmp: &Path, key: &str, token: &str, wants_state: bool) -> Result<Self> {
        let own = Self { tmp: tmp.to_owned(), key: key.to_owned(), token: token.to_owned() };
        let left: Vec<_> = entries(tmp)?.into_iter().filter(|entry| entry.key == key).collect();
        let states = left.iter().filter(|entry| entry.is_state() && wants_state);
        // One that's whole comes before one that was being written.
        let newest =
            states.max_by_key(|entry| (entry.rest == STATE, entry.modified())).map(|entry| entry.token.clone());
        for entry in left {
            if entry.is_state() && newest.as_ref() == Some(&entry.token) {
                fs::rename(&entry.path, own.name(&format!(".{}", entry.rest)))?;
            } else {
                remove(&entry.path)?;
            }
        }
        fs::create_dir_all(own.slot())?;
        Ok(own)
    }

    fn name(&self, rest: &str) -> PathBuf {
        self.tmp.join(format!("{}.{}{rest}", self.key, self.token))
    }

    pub(super) fn slot(&self) -> PathBuf {
        self.name("")
    }

    pub(super) fn state(&self) -> PathBuf {
        self.name(&format!(".{STATE}"))
    }

    /// The place of a state that isn't one lease's, in a directory of its own; named as those in `tmp/` are.
    pub(super) fn shared_state(states: &Path, key: &str) -> PathBuf {
        states.join(format!("{key}.{STATE}"))
    }

    pub(super) fn old(&self) -> PathBuf {
        self.name(&format!(".{OLD}"))
    }

    /// Where something is put that is to be removed.
    pub(super) fn gone(tmp: &Path, key: &str, token: &str) -> PathBuf {
        Self { tmp: tmp.to_owned(), key: key.to_owned(), token: token.to_owned() }.name(".gone")
    }

    /// Removes the state, in whatever parts it lies.
    pub(super) fn remove_state(&self) -> Result<()> {
        for entry in entries(&self.tmp)? {
            if entry.key == self.key && entry.token == self.token && entry.is_state() {
                remove(&entry.path)?;
            }
        }
        Ok(())
    }
}

/// Brings back an artifact that a process has set aside to replace it, and was killed before it did; `at` is its place,
/// where nothing is. The caller holds the key.
///
/// # Errors
/// The file system's.
pub(super) fn restore(tmp: &Path, key: &str, at: &Path) -> Result<()> {
    match entries(tmp)?.into_iter().find(|entry| entry.key == key && entry.is_old()) {
        Some(old) if !at.exists() => Ok(fs::rename(old.path, at)?),
        _ => Ok(()),
    }
}

/// Size of all files below a path.
pub(super) fn size(path: &Path) -> u64 {
    let files = walkdir::WalkDir::new(path).into_iter().flatten();
    files.filter_map(|entry| entry.metadata().ok()).filter(|file| file.is_file()).map(|file| file.len()).sum()
}

/// Removes all that is in a directory.
///
/// # Errors
/// If something can't be removed.
pub(in crate::engine) fn clear_directory(directory: &Path) -> Result<()> {
    fs::read_dir(directory)?.try_for_each(|entry| remove(&entry?.path()))
}

/// Removes a file, or a directory with all that's in it, if it's there.
pub(super) fn remove(path: &Path) -> Result<()> {
    let removed = if path.is_dir() { fs::remove_dir_all(path) } else { fs::remove_file(path) };
    match removed {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(error.into()),
        _ => Ok(()),
    }
}
