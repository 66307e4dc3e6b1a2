//! The lock under which leases change hands and slots become artifacts, held for an instant.
//!
//! It's the lock of the store's file `format`, and where that doesn't hold between machines, a name beside it as well: a
//! file's second name, `format.lock`, is made by one process at a time on every file system. That a machine can't lock the
//! file, or that its locks are its own, is found out when the lock is taken, and from then on the file itself says so, for
//! all machines. The file is read under the lock, so who takes it next knows.

use std::{
    fs::File,
    io::{Error, ErrorKind, Write},
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};
use tempfile::NamedTempFile;

use super::{
    atomic,
    disk::Disk,
    format::{Settings, lock_by_name},
    holder,
};
use crate::support::{Hinted, clock::Clock};

/// The lock that is a name.
const NAME: &str = "format.lock";
/// The longest pause between two attempts.
const PAUSE: Duration = Duration::from_millis(50);

/// The lock, until it's dropped.
#[derive(Debug)]
pub(super) struct Guard {
    _file: File,
    _name: Option<Name>,
}

impl Guard {
    /// Waits for the lock of the store at `root`. A name that stays there for longer than `patience` is one that a machine left
    /// which is no more.
    ///
    /// # Errors
    /// The file system's; and if it has no way to keep others out.
    pub(super) fn take(root: &Path, clock: &dyn Clock, patience: Duration) -> Result<Self> {
        let path = root.join("format");
        let what = || format!("failed to lock {}", path.display());
        let file = File::options().read(true).write(true).open(&path).with_context(what)?;
        let has_no_lock = match file.lock() {
            Err(error) if is_missing(&error) => true,
            locked => locked.map(|()| false).with_context(what)?,
        };
        let says_so = Settings::now(root).locks_by_name;
        if !says_so && (has_no_lock || Disk::of(root).locks_are_local()) {
            tracing::info!("locks of files don't hold between machines here, so a name is the lock from now on");
            lock_by_name(root).with_context(what)?;
            return Ok(Self { _file: file, _name: Some(Name::take(root, clock, patience)?) });
        }
        let name = says_so.then(|| Name::take(root, clock, patience)).transpose()?;
        Ok(Self { _file: file, _name: name })
    }
}

/// Whether a file system has no locks: `ENOSYS`, as Lustre says, `EOPNOTSUPP`, or `ENOLCK`, as NFS says without its lock daemon.
fn is_missing(error: &Error) -> bool {
    const ENOLCK: i32 = 37;
    error.kind() == ErrorKind::Unsupported || cfg!(target_os = "linux") && error.raw_os_error() == Some(ENOLCK)
}

/// A name that only one process has.
#[derive(Debug)]
struct Name {
    path: PathBuf,
    /// The file, which goes away with this; it holds who made it.
    _own: NamedTempFile,
    text: Vec<u8>,
}

impl Name {
    fn take(root: &Path, clock: &dyn Clock, patience: Duration) -> Result<Self> {
        let (path, mut own) = (root.join(NAME), atomic::create(root)?);
        let unique = own.path().file_name().unwrap_or_default().to_string_lossy().into_owned();
        let text = format!("{} {unique}\n", holder::mark()).into_bytes();
        own.write_all(&text)?;
        let mut seen: Option<(Vec<u8>, Instant)> = None;
        let mut pause = Duration::from_millis(1);
        loop {
            match std::fs::hard_link(own.path(), &path) {
                Ok(()) => return Ok(Self { path, _own: own, text }),
                // The answer to an attempt that was made may have been lost on its way.
                Err(_) if std::fs::read(&path).is_ok_and(|found| found == text) => {
                    return Ok(Self { path, _own: own, text });
                }
                Err(error) if error.kind() == ErrorKind::AlreadyExists => {}
                Err(error) if [ErrorKind::Unsupported, ErrorKind::PermissionDenied].contains(&error.kind()) => {
                    bail!(Hinted::with(
                        format!(
                            "the store at {} lies on a disk with neither locks nor second names of files",
                            root.display()
                        ),
                        "several machines can't share it: put it elsewhere with --store, and share results by --remote",
                    ))
                }
                Err(error) => return Err(error).with_context(|| format!("failed to make {}", path.display())),
            }
            match std::fs::read(&path) {
                Ok(found) => {
                    let is_same = seen.as_ref().is_some_and(|(text, _)| *text == found);
                    let is_old = is_same && seen.as_ref().is_some_and(|(_, since)| clock.now() - *since >= patience);
                    if is_old || is_left(&found) {
                        Self::remove_left(&path, &own.path().with_extension("left"), &found);
                    } else if !is_same {
                        seen = Some((found, clock.now()));
                    }
                }
                Err(_) => seen = None,
            }
            clock.sleep(pause);
            pause = (pause * 2).min(PAUSE);
        }
    }

    /// Removes the name that a process left which is no more. Of several that try one succeeds; if another process has made
    /// the name anew meanwhile, it gets it back.
    fn remove_left(path: &Path, aside: &Path, left: &[u8]) {
        if std::fs::rename(path, aside).is_ok() {
            if !std::fs::read(aside).is_ok_and(|found| found == left) {
                let _ = std::fs::hard_link(aside, path);
            }
            let _ = std::fs::remove_file(aside);
        }
    }
}

/// Whether the process that made the name certainly has ended.
fn is_left(text: &[u8]) -> bool {
    let text = String::from_utf8_lossy(text);
    text.split(' ').next().and_then(holder::is_gone) == Some(true)
}

impl Drop for Name {
    fn drop(&mut self) {
        if std::fs::read(&self.path).is_ok_and(|found| found == self.text) {
            let _ = std::fs::remove_file(&self.path);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::support::clock::{ManualClock, SystemClock};

    const PATIENCE: Duration = Duration::from_secs(30);

    fn store() -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("format"), "2\nlock link\n").unwrap();
        dir
    }

    #[test]
    fn name_is_one_process_at_a_time() {
        let dir = store();
        let guard = Guard::take(dir.path(), &SystemClock, PATIENCE).unwrap();
        assert!(dir.path().join(NAME).exists());
        drop(guard);
        assert!(!dir.path().join(NAME).exists());
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1);
    }

    #[test]
    fn name_that_a_machine_left_is_removed_when_patience_ends() {
        let dir = store();
        std::fs::write(dir.path().join(NAME), "1.1.elsewhere x\n").unwrap();
        let clock = ManualClock::new();
        std::thread::scope(|scope| {
            let taken = scope.spawn(|| Name::take(dir.path(), &clock, PATIENCE).unwrap());
            assert!(clock.is_waited_for_by(1));
            clock.advance(PATIENCE - PAUSE);
            assert!(clock.is_waited_for_by(1) && !taken.is_finished());
            while !taken.is_finished() {
                clock.advance(PAUSE);
                std::thread::yield_now();
            }
            drop(taken.join().unwrap());
        });
        assert!(!dir.path().join(NAME).exists());
    }

    #[test]
    fn name_that_was_made_anew_is_given_back() {
        let dir = store();
        let path = dir.path().join(NAME);
        std::fs::write(&path, "new").unwrap();
        Name::remove_left(&path, &dir.path().join("aside"), b"old");
        assert_eq!(std::fs::read(&path).unwrap(), b"new");
        Name::remove_left(&path, &dir.path().join("aside"), b"new");
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1);
    }
}
