//! Which of the remote's files were found sound: believed for as long as the remote's own mark of them stays the same, as
//! the store believes its files by their stamps.

use std::{
    collections::BTreeMap,
    path::PathBuf,
    sync::OnceLock,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use object_store::{ObjectMeta, path::Path};
use parking_lot::{Mutex, MutexGuard};

use crate::engine::store::Store;

/// A file that was changed within this time may change again without a change of its times.
const SETTLED: Duration = Duration::from_secs(2);

/// Marks by digest, in `STORE/remote/PLACE/sound.json`. That it can't be read or written is no error: files are read again.
pub(super) struct SoundBlobs {
    store: Store,
    path: PathBuf,
    known: OnceLock<Mutex<Marks>>,
}

#[derive(Default)]
struct Marks {
    of: BTreeMap<String, String>,
    changed: bool,
}

impl SoundBlobs {
    pub(super) fn new(store: &Store, place: &str) -> Self {
        let path = store.memory_of(place).join("sound.json");
        Self { store: store.clone(), path, known: OnceLock::new() }
    }

    /// Whether the file with this digest was sound when it had this mark.
    pub(super) fn holds(&self, digest: &str, mark: Option<&str>) -> bool {
        mark.is_some() && self.known().of.get(digest).map(String::as_str) == mark
    }

    /// Remembers that the file was sound with this mark.
    pub(super) fn learn(&self, digest: &str, mark: Option<String>) {
        let mut known = self.known();
        let was = known.of.get(digest).cloned();
        if was != mark {
            known.changed = true;
            match mark {
                Some(mark) => drop(known.of.insert(digest.to_owned(), mark)),
                None => drop(known.of.remove(digest)),
            }
        }
    }

    fn known(&self) -> MutexGuard<'_, Marks> {
        let known = self.known.get_or_init(|| {
            let text = std::fs::read(&self.path).ok();
            let of = text.and_then(|text| serde_json::from_slice(&text).ok()).unwrap_or_default();
            Mutex::new(Marks { of, changed: false })
        });
        known.lock()
    }

    fn save(&mut self) {
        let Some(known) = self.known.get_mut().map(Mutex::get_mut).filter(|known| known.changed) else { return };
        if let Ok(text) = serde_json::to_vec(&known.of) {
            self.store.remember(&self.path, &text);
        }
    }
}

impl Drop for SoundBlobs {
    fn drop(&mut self) {
        self.save();
    }
}

/// How a remote marks its files, so that other bytes have another mark.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Marking {
    /// Files of this machine, or of a network drive, by number, length and times; that of a change can't be set back.
    Files,
    /// Objects with an entity tag that changes whenever they're written.
    Objects,
    /// Nothing that's sure: some web servers' tags count in seconds, others have none.
    Unsure,
}

impl Marking {
    /// The mark of a file that's there. `path` is where it lies, if it's a file.
    pub(super) fn of(self, found: &ObjectMeta, path: impl FnOnce(&Path) -> Option<PathBuf>) -> Option<String> {
        match self {
            Self::Files => of_file(&std::fs::metadata(path(&found.location)?).ok()?),
            Self::Objects => found.e_tag.as_ref().map(|tag| format!("{tag} {}", found.size)),
            Self::Unsure => None,
        }
    }
}

#[cfg(unix)]
fn of_file(metadata: &std::fs::Metadata) -> Option<String> {
    use std::os::unix::fs::MetadataExt;
    let changed = Duration::new(u64::try_from(metadata.ctime()).ok()?, u32::try_from(metadata.ctime_nsec()).ok()?);
    let last = metadata.modified().ok()?.max(UNIX_EPOCH + changed);
    let settled = SystemTime::now().duration_since(last).is_ok_and(|age| age > SETTLED);
    let (device, inode, length) = (metadata.dev(), metadata.ino(), metadata.len());
    settled.then(|| format!("{device}:{inode} {length} {} {}", metadata.mtime_nsec(), changed.as_nanos()))
}

#[cfg(not(unix))]
fn of_file(_metadata: &std::fs::Metadata) -> Option<String> {
    None
}
