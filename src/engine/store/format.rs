//! The version of a store's layout, in its file `format`, and the way from older ones. Below the version stand settings that
//! hold for all processes which share the store, a line each:
//!
//! ```text
//! 2
//! patience 120    seconds for which a lease stays as it is before it counts as left behind
//! lock link       leases change hands under a lock that is a name, since not all machines agree on locks of files
//! ```

use std::{
    fs::TryLockError,
    io::{Seek, Write},
    path::Path,
    time::Duration,
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

/// How long a lease stays as it is before it counts as left behind, unless the store says otherwise.
const PATIENCE: Duration = Duration::from_secs(30);
/// The shortest patience: a holder shows every two seconds that it's alive, and a shared disk may be slow to tell.
const LEAST: Duration = Duration::from_secs(10);

/// What holds for all processes that share a store.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct Settings {
    /// How long a lease stays as it is before it counts as left behind.
    pub(super) patience: Duration,
    /// Whether leases change hands under a lock that is a name in the store.
    pub(super) locks_by_name: bool,
}

impl Default for Settings {
    fn default() -> Self {
        Self { patience: PATIENCE, locks_by_name: false }
    }
}

impl Settings {
    /// Of the lines below the version.
    ///
    /// # Errors
    /// The line that can't be understood.
    fn of(lines: &str) -> Result<Self, String> {
        let mut settings = Self::default();
        for line in lines.lines().map(str::trim).filter(|line| !line.is_empty()) {
            match line.split_once(' ').map(|(name, value)| (name, value.trim())) {
                Some(("patience", seconds)) => {
                    let seconds = seconds.parse().map(Duration::from_secs).map_err(|_| line.to_owned())?;
                    settings.patience = seconds.max(LEAST);
                }
                Some(("lock", "link")) => settings.locks_by_name = true,
                _ => return Err(line.to_owned()),
            }
        }
        Ok(settings)
    }

    /// Of the store at `root`, as they are now; those of a store that can't be read are the usual ones.
    pub(super) fn now(root: &Path) -> Self {
        let text = std::fs::read_to_string(root.join(MARKER)).unwrap_or_default();
        let lines = text.split_once('\n').map(|(_, lines)| lines).unwrap_or_default();
        Self::of(lines).unwrap_or_default()
    }
}

/// The version and the lines below it.
fn found(root: &Path) -> Result<Option<(String, String)>> {
    match std::fs::read(root.join(MARKER)) {
        Ok(found) => {
            let found = String::from_utf8_lossy(&found);
            let found = found.trim_matches(|c: char| c.is_whitespace() || c == '\0');
            let (version, lines) = found.split_once('\n').unwrap_or((found, ""));
            Ok(Some((version.trim().to_owned(), lines.to_owned())))
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
    let Some((format, lines)) = found(root)? else { return Ok(()) };
    let settings = Settings::of(&lines);
    let root = root.display();
    if [FORMAT, CUT].contains(&format.as_str()) || OLDER.contains(&format.as_str()) {
        let Err(line) = settings else { return Ok(()) };
        bail!(Hinted::with(
            format!("the file {root}/{MARKER} says `{line}`, which this version of pipe doesn't know"),
            "below the version stand `patience SECONDS` and `lock link`; a newer version may know more",
        ));
    }
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
        Some((format, _)) if format == FORMAT => Ok(()),
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

/// Has leases change hands under a lock that is a name, from now on and for all processes.
///
/// # Errors
/// The file system's.
pub(super) fn lock_by_name(root: &Path) -> Result<()> {
    let mut file = fs::File::options().append(true).open(root.join(MARKER))?;
    // In one piece, so that two machines which find out at once only say it twice.
    file.write_all(b"lock link\n")?;
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

#[cfg(test)]
mod tests {
    use super::*;

    fn store(format: &str) -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join(MARKER), format).unwrap();
        dir
    }

    #[test]
    fn settings_stand_below_the_version() {
        for (format, patience, locks_by_name) in [
            ("2\n", 30, false),
            ("", 30, false),
            ("2\npatience 300\n", 300, false),
            ("2\nlock link\n\npatience 45\nlock link\n", 45, true),
            // Less than what a holder needs to show that it's alive.
            ("2\npatience 1\n", 10, false),
        ] {
            let dir = store(format);
            check(dir.path()).unwrap();
            create(dir.path()).unwrap();
            let patience = Duration::from_secs(patience);
            assert_eq!(Settings::now(dir.path()), Settings { patience, locks_by_name }, "{format:?}");
        }
    }

    #[test]
    fn what_is_not_understood_is_refused() {
        for line in ["patience", "patience long", "lock mkdir", "colour blue"] {
            let error = check(store(&format!("2\n{line}\n")).path()).unwrap_err();
            assert!(error.to_string().contains(&format!("says `{line}`")), "{error:#}");
        }
    }

    #[test]
    fn lock_by_name_is_said_once_more_without_harm() {
        let dir = store("2\npatience 60\n");
        lock_by_name(dir.path()).unwrap();
        lock_by_name(dir.path()).unwrap();
        let patience = Duration::from_secs(60);
        assert_eq!(Settings::now(dir.path()), Settings { patience, locks_by_name: true });
    }
}
