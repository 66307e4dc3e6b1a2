//! Whether an artifact's files are what was written: known for as long as their stamps stay the same, read again where
//! they don't.

use std::{
    fs::Metadata,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError},
};

use anyhow::Result;

use super::memory::{Hashed, Memory, Stamp};
use crate::support::clock::Clock;

/// A store's memory of the files that were found sound. It's read when the first artifact is, and written when the last
/// copy of the store goes.
#[derive(Debug)]
pub(super) struct Soundness {
    path: PathBuf,
    memory: OnceLock<Mutex<Memory>>,
    clock: Arc<dyn Clock>,
}

impl Soundness {
    pub(super) fn new(root: &Path, clock: Arc<dyn Clock>) -> Self {
        Self { path: root.join("sound.json"), memory: OnceLock::new(), clock }
    }

    /// Whether a file has this digest. It's read unless it was before, and hasn't been touched since.
    ///
    /// # Errors
    /// If it can't be read.
    pub(super) fn holds(&self, path: &Path, metadata: &Metadata, digest: &str) -> Result<bool> {
        let stamp = Stamp::of(metadata);
        let known = stamp.identity().is_some_and(|name| self.memory().get(&name, &stamp) == Some(digest));
        Ok(known || self.read(path, digest)?)
    }

    /// Reads a file, whatever is remembered of it, and tells whether it has this digest.
    ///
    /// # Errors
    /// If it can't be read.
    pub(super) fn read(&self, path: &Path, digest: &str) -> Result<bool> {
        let hashed = Hashed::read(path, &*self.clock)?;
        let is_sound = hashed.digest == digest;
        self.note(path, is_sound.then_some(&hashed));
        Ok(is_sound)
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
        self.memory().retain(keep);
    }

    fn note(&self, path: &Path, hashed: Option<&Hashed>) {
        let Some(name) = std::fs::metadata(path).ok().and_then(|metadata| Stamp::of(&metadata).identity()) else {
            return;
        };
        match hashed {
            Some(hashed) => self.memory().learn(name, hashed),
            None => self.memory().forget(&name),
        }
    }

    fn memory(&self) -> MutexGuard<'_, Memory> {
        let memory = self.memory.get_or_init(|| Mutex::new(Memory::open(self.path.clone())));
        memory.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Soundness {
    fn drop(&mut self) {
        if let Some(memory) = self.memory.get_mut() {
            memory.get_mut().unwrap_or_else(PoisonError::into_inner).save();
        }
    }
}
