//! The version of a store's layout, in its file `format`, and the way from older ones.

use std::{fs::TryLockError, path::Path};

use anyhow::{Context, Result, bail};
use fs_err as fs;

use super::atomic;

/// The layout that is written. 2 has leases in place of locks, and checksums of records.
const FORMAT: &str = "2";
/// The older layouts that are read, and become the present one when something is first written.
const OLDER: [&str; 1] = ["1"];

/// The file's name.
const MARKER: &str = "format";

fn found(root: &Path) -> Result<Option<String>> {
    match std::fs::read_to_string(root.join(MARKER)) {
        Ok(found) => Ok(Some(found.trim().to_owned())),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error).with_context(|| format!("failed to open the store at {}", root.display())),
    }
}

/// Sees that the store at `root`, if there is one, can be read.
///
/// # Errors
/// If it has another format.
pub(super) fn check(root: &Path) -> Result<()> {
    match found(root)? {
        Some(format) if format != FORMAT && !OLDER.contains(&format.as_str()) => bail!(
            "the store at {} has format {format}, and this version of pipe reads formats {} and {FORMAT}: \
             name another one with --store, or remove it",
            root.display(),
            OLDER.join(", ")
        ),
        _ => Ok(()),
    }
}

/// Makes the store's directories, and brings an older one up to date.
///
/// # Errors
/// The file system's; if an older `pipe` is at work in an older store.
pub(super) fn create(root: &Path) -> Result<()> {
    for dir in ["artifacts", "tmp", "leases"] {
        fs::create_dir_all(root.join(dir))?;
    }
    match found(root)? {
        Some(format) if format == FORMAT => Ok(()),
        Some(_) => {
            check(root)?;
            retire_locks(&root.join("locks"))?;
            // In place, since the file is what is locked while leases change hands.
            Ok(fs::write(root.join(MARKER), format!("{FORMAT}\n"))?)
        }
        None => {
            fs::write(root.join(".gitignore"), "*\n")?;
            let mut file = atomic::create(root)?;
            std::io::Write::write_all(&mut file, format!("{FORMAT}\n").as_bytes())?;
            match file.persist_noclobber(root.join(MARKER)) {
                // Another process was faster.
                Err(error) if error.error.kind() == std::io::ErrorKind::AlreadyExists => Ok(()),
                persisted => persisted.map(drop).with_context(|| format!("failed to write to {}", root.display())),
            }
        }
    }
}

/// Removes the locks of format 1, each a file that is locked while its key is computed.
fn retire_locks(dir: &Path) -> Result<()> {
    if !dir.exists() {
        return Ok(());
    }
    for entry in fs::read_dir(dir)? {
        let path = entry?.path();
        match fs::File::open(&path)?.file().try_lock() {
            Err(TryLockError::WouldBlock) => bail!(
                "an older version of pipe is at work in this store: wait until it's done, or name another store with --store"
            ),
            Err(TryLockError::Error(error)) => return Err(error).context("failed to look at a lock"),
            Ok(()) => fs::remove_file(&path)?,
        }
    }
    fs::remove_dir(dir)?;
    Ok(())
}
