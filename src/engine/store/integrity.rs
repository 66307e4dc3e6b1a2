//! Whether an artifact's files are what was written: known for as long as their stamps stay the same, read again where
//! they don't.

use std::{
    fs::Metadata,
    path::{Path, PathBuf},
    sync::{Arc, OnceLock},
};

use anyhow::Result;
use parking_lot::{Mutex, MutexGuard};

use super::digest_table::{DigestTable, Hashed, Stamp};
use crate::support::clock::Clock;

/// A store's memory of the files that were found sound. It's read when the first artifact is, and written when the last
/// copy of the store goes.
#[derive(Debug)]
pub(super) struct Integrity {
    path: PathBuf,
    table: OnceLock<Mutex<DigestTable>>,
    clock: Arc<dyn Clock>,
}

impl Integrity {
    pub(super) fn new(root: &Path, clock: Arc<dyn Clock>) -> Self {
        Self { path: root.join("sound.json"), table: OnceLock::new(), clock }
    }

    /// Whether a file has this digest. It's read unless it was before, and hasn't been touched since.
    ///
    /// # Errors
    /// If it can't be read.
    pub(super) fn holds(&self, path: &Path, metadata: &Metadata, digest: &str) -> Result<bool> {
        let stamp = Stamp::of(metadata);
        let known = stamp.identity().is_some_and(|name| self.table().get(&name, &stamp) == Some(digest));
        Ok(known || self.read(path, digest)?)
    }

    /// Reads a file, whatever is remembered of it, and returns whether it has this digest.
    ///
    /// # Errors
    /// If it can't be read.
    pub(super) fn read(&self, path: &Path, digest: &str) -> Result<bool> {
        let hashed = Hashed::read(path, &*self.clock)?;
        let is_intact = hashed.digest == digest;
        self.note(path, is_intact.then_some(&hashed));
        Ok(is_intact)
    }

    /// Hashes a file that has just been written.
    ///
    /// # Errors
    /// If it can't be read.
    pub(super) fn learn(&self, path: &Path) -> Result<String> {
        let hashed = Hashed::read(path, &*self.clock)?;
        self.note(path, Some(&hashed));
        Ok(hashed.digest)
    }

    /// Forgets the files that aren't among these, each by [`Stamp::identity`].
    pub(super) fn retain(&self, keep: &dyn Fn(&str) -> bool) {
        self.table().retain(keep);
    }

    fn note(&self, path: &Path, hashed: Option<&Hashed>) {
        let Some(name) = std::fs::metadata(path).ok().and_then(|metadata| Stamp::of(&metadata).identity()) else {
            return;
        };
        match hashed {
            Some(hashed) => self.table().learn(name, hashed),
            None => self.table().forget(&name),
        }
    }

    fn table(&self) -> MutexGuard<'_, DigestTable> {
        let table = self.table.get_or_init(|| Mutex::new(DigestTable::open(self.path.clone())));
        table.lock()
    }
}

impl Drop for Integrity {
    fn drop(&mut self) {
        if let Some(table) = self.table.get_mut() {
            table.get_mut().save();
        }
    }
}
