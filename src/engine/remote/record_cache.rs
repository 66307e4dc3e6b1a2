//! What this machine knows of a remote: the records it has seen there, so that a run with nothing to do asks nothing.

use std::{
    path::PathBuf,
    time::{Duration, SystemTime},
};

use super::{address::Address, decode};
use crate::engine::store::{Artifact, Store};

/// How long a record is believed to be still there: objects may expire.
const BELIEVED: Duration = Duration::from_secs(24 * 60 * 60);

/// Records in `STORE/remote/PLACE`. That one can't be read or written is no error: the remote is merely asked again.
pub(super) struct RecordCache {
    store: Store,
    dir: PathBuf,
}

impl RecordCache {
    pub(super) fn new(store: &Store, address: &Address) -> Self {
        Self { store: store.clone(), dir: store.memory_of(&address.id()) }
    }

    /// A record, if it was seen lately, or at `any` time: where the remote can't be asked, an old one is better than none.
    pub(super) fn read(&self, key: &str, any: bool) -> Option<Artifact> {
        let path = self.dir.join(key);
        let age = SystemTime::now().duration_since(std::fs::metadata(&path).ok()?.modified().ok()?);
        if any || age.is_ok_and(|age| age < BELIEVED) {
            let mut artifact = decode(&std::fs::read(path).ok()?, key).ok()?;
            artifact.path = self.store.artifact_dir(key);
            return Some(artifact);
        }
        None
    }

    /// The records of keys that begin so.
    pub(super) fn matching(&self, start: &str) -> Vec<Artifact> {
        let names = std::fs::read_dir(&self.dir).into_iter().flatten().flatten().map(|entry| entry.file_name());
        names.filter_map(|name| self.read(name.to_str().filter(|name| name.starts_with(start))?, true)).collect()
    }

    pub(super) fn write(&self, key: &str, text: &[u8]) {
        self.store.remember(&self.dir.join(key), text);
    }

    pub(super) fn forget(&self, key: &str) {
        let _ = std::fs::remove_file(self.dir.join(key));
    }
}
