//! Who may compute a key: a file in `locks/`, locked by the one process that does, and gone when it's done.

use std::{
    fs::{File, TryLockError},
    path::{Path, PathBuf},
};

use anyhow::{Context, Result};

/// A key that is held until this is dropped.
pub(super) struct Lock {
    path: PathBuf,
    // Closing it unlocks it, which comes after the file was removed.
    _file: File,
}

impl Lock {
    /// Waits until nobody else holds the file; `waiting` is called once before that.
    ///
    /// # Errors
    /// The file system's.
    pub(super) fn take(path: PathBuf, waiting: &dyn Fn()) -> Result<Self> {
        let mut told = false;
        loop {
            let file = File::create(&path).with_context(|| format!("failed to create {}", path.display()))?;
            match file.try_lock() {
                Ok(()) => {}
                Err(TryLockError::WouldBlock) => {
                    if !std::mem::replace(&mut told, true) {
                        waiting();
                    }
                    file.lock().with_context(|| format!("failed to lock {}", path.display()))?;
                }
                Err(TryLockError::Error(error)) => {
                    return Err(error).with_context(|| format!("failed to lock {}", path.display()));
                }
            }
            // Whoever held it before has removed it: by now the name may be another file's, which others lock.
            if is_still(&file, &path) {
                return Ok(Self { path, _file: file });
            }
        }
    }
}

impl Drop for Lock {
    fn drop(&mut self) {
        // Removed while it's still locked, so that nobody loses a file that they hold; see `take`.
        #[cfg(unix)]
        let _ = std::fs::remove_file(&self.path);
    }
}

/// Whether the name still stands for the open file.
#[cfg(unix)]
fn is_still(file: &File, path: &Path) -> bool {
    use std::os::unix::fs::MetadataExt;

    let identity = |metadata: std::fs::Metadata| (metadata.dev(), metadata.ino());
    match (file.metadata(), std::fs::metadata(path)) {
        (Ok(open), Ok(named)) => identity(open) == identity(named),
        _ => false,
    }
}

/// Where open files can't be told apart, locks stay where they are: empty files.
#[cfg(not(unix))]
fn is_still(_file: &File, _path: &Path) -> bool {
    true
}

#[cfg(test)]
mod tests {
    use std::{
        sync::atomic::{AtomicUsize, Ordering},
        thread,
        time::Duration,
    };

    use super::*;

    #[test]
    fn a_lock_is_held_by_one_at_a_time_and_leaves_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("key");
        let holders = AtomicUsize::new(0);
        thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| {
                    for _ in 0..50 {
                        let lock = Lock::take(path.clone(), &|| {}).unwrap();
                        assert_eq!(holders.fetch_add(1, Ordering::SeqCst), 0);
                        thread::sleep(Duration::from_micros(20));
                        assert_eq!(holders.fetch_sub(1, Ordering::SeqCst), 1);
                        drop(lock);
                    }
                });
            }
        });
        #[cfg(unix)]
        assert!(!path.exists());
    }
}
