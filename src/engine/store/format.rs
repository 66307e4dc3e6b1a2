//! The version of a store's layout, in its file `format`, and the way from older ones.

use std::{
    fs::TryLockError,
    io::{Seek, Write},
    path::Path,
};

use anyhow::{Context, Result, bail, ensure};
use fs_err as fs;

use super::atomic;
use crate::support::Hinted;

/// The layout that is written. 2 has leases in place of locks, and checksums of records.
const FORMAT: &str = "2";
/// The older layouts that are read, and become the present one when something is first written.
const OLDER: [&str; 1] = ["1"];
/// What a power cut may leave of the file. Records vouch for artifacts themselves, so it's written anew.
const CUT: &str = "";

/// The file's name.
const MARKER: &str = "format";

fn found(root: &Path) -> Result<Option<String>> {
    match std::fs::read(root.join(MARKER)) {
        Ok(found) => {
            let found = String::from_utf8_lossy(&found);
            Ok(Some(found.trim_matches(|c: char| c.is_whitespace() || c == '\0').to_owned()))
        }
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error).with_context(|| format!("failed to open the store at {}", root.display())),
    }
}

/// Sees that the store at `root`, if there is one, can be read, and results be moved within it.
///
/// # Errors
/// If it has another format, or its folders lie on several file systems.
pub(super) fn check(root: &Path) -> Result<()> {
    is_one_file_system(root)?;
    let Some(format) = found(root)? else { return Ok(()) };
    if [FORMAT, CUT].contains(&format.as_str()) || OLDER.contains(&format.as_str()) {
        return Ok(());
    }
    let root = root.display();
    if format.bytes().all(|byte| byte.is_ascii_digit()) {
        bail!(
            "the store at {root} has format {format}, and this version of pipe reads formats {} and {FORMAT}: \
             name another one with --store, or use a newer version",
            OLDER.join(", ")
        );
    }
    bail!(Hinted::with(
        format!("the file {root}/{MARKER} holds no format: {:?}", format.chars().take(20).collect::<String>()),
        format!(
            "if this is a store whose file `{MARKER}` was damaged, empty that file: artifacts vouch for themselves"
        )
    ));
}

/// Makes the store's directories, and brings an older one up to date.
///
/// # Errors
/// The file system's; if an older `pipe` is at work in an older store.
pub(super) fn create(root: &Path) -> Result<()> {
    let folders = ["artifacts", "tmp", "leases"].map(|dir| root.join(dir));
    if !folders.iter().all(|dir| dir.is_dir()) {
        folders.iter().try_for_each(fs::create_dir_all)?;
        atomic::sync_dir(root)?;
    }
    match found(root)? {
        Some(format) if format == FORMAT => Ok(()),
        Some(_) => {
            check(root)?;
            retire_locks(&root.join("locks"))?;
            rewrite(&root.join(MARKER))
        }
        None => {
            fs::write(root.join(".gitignore"), "*\n")?;
            let what = || format!("failed to write to {}", root.display());
            let file = atomic::prepare(root, format!("{FORMAT}\n").as_bytes()).with_context(what)?;
            match file.persist_noclobber(root.join(MARKER)) {
                // Another process was faster.
                Err(error) if error.error.kind() == std::io::ErrorKind::AlreadyExists => Ok(()),
                persisted => persisted.map(drop).with_context(what),
            }?;
            atomic::sync_dir(root)
        }
    }
}

/// Writes the present format over an older one. In place, since the file is what is locked while leases change hands; that
/// nothing is left if the power is cut just then does no harm.
fn rewrite(marker: &Path) -> Result<()> {
    let mut file = fs::File::options().read(true).write(true).open(marker)?;
    file.file().lock().with_context(|| format!("failed to lock {}", marker.display()))?;
    file.rewind()?;
    file.write_all(format!("{FORMAT}\n").as_bytes())?;
    file.set_len(FORMAT.len() as u64 + 1)?;
    file.sync_all()?;
    Ok(())
}

/// Sees that what is made in `tmp` can be renamed into `artifacts`. Of folders that aren't there yet the store's own file
/// system counts.
#[cfg(unix)]
fn is_one_file_system(root: &Path) -> Result<()> {
    use std::os::unix::fs::MetadataExt;

    let device = |path: &Path| std::fs::metadata(path).ok().map(|metadata| metadata.dev());
    let Some(own) = device(root) else { return Ok(()) };
    let folders = ["artifacts", "tmp"].map(|name| (name, device(&root.join(name)).unwrap_or(own)));
    let [(artifacts, on), (tmp, other)] = folders;
    ensure!(
        on == other,
        Hinted::with(
            format!(
                "the folders `{artifacts}` and `{tmp}` of the store at {} lie on two file systems, and results can't be \
                 moved from one to the other",
                root.display()
            ),
            "put the whole store on one of them, with --store, PIPE_STORE or a link in the store's own place",
        )
    );
    Ok(())
}

#[cfg(not(unix))]
fn is_one_file_system(_root: &Path) -> Result<()> {
    Ok(())
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
