//! Digests that are remembered for as long as a file's stamp stays the same, and never for one that may have changed.

use std::{
    collections::BTreeMap,
    fs::Metadata,
    path::{Path, PathBuf},
    time::{SystemTime, UNIX_EPOCH},
};

use anyhow::{Context, Result};
use fs_err as fs;
use serde::{Deserialize, Serialize};

use super::atomic;
use crate::support::clock::Clock;

/// A file changed within this time before it was hashed may change again without a change of its stamp, in nanoseconds.
/// Some file systems count time in steps of two seconds.
const SETTLED: u64 = 2_000_000_000;
/// The same within one run, where time counts in steps of the system's clock.
const TICK: u64 = 20_000_000;

/// BLAKE3 of a file's bytes, in hexadecimal.
///
/// # Errors
/// If it can't be read.
pub fn digest_file(path: &Path) -> Result<String> {
    let mut hasher = blake3::Hasher::new();
    hasher.update_reader(fs::File::open(path)?).with_context(|| format!("failed to read {}", path.display()))?;
    Ok(hasher.finalize().to_hex().to_string())
}

/// A file's metadata. Writing to the file changes it: programs can set the time of
/// modification back, but not that of the change.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub(super) struct Stamp {
    bytes: u64,
    /// Nanoseconds since 1970, as are the others.
    modified: u64,
    changed: u64,
    inode: u64,
    device: u64,
}

impl Stamp {
    pub(super) fn of(metadata: &Metadata) -> Self {
        let modified = nanoseconds(metadata.modified().unwrap_or(UNIX_EPOCH));
        #[cfg(unix)]
        let (changed, inode, device) = {
            use std::os::unix::fs::MetadataExt;
            let changed = u64::try_from(metadata.ctime()).unwrap_or_default().saturating_mul(1_000_000_000);
            (changed + u64::try_from(metadata.ctime_nsec()).unwrap_or_default(), metadata.ino(), metadata.dev())
        };
        #[cfg(not(unix))]
        let (changed, inode, device) = (modified, 0, 0);
        Self { bytes: metadata.len(), modified, changed, inode, device }
    }

    /// What stands for the file whatever its name is, so that it's known under all its hard links; `None` where files
    /// have no such number.
    pub(super) fn identity(&self) -> Option<String> {
        (self.inode != 0).then(|| format!("{}:{}", self.device, self.inode))
    }

    /// Whether the file had been left alone for so long by now that a later change shows in its stamp, on this machine.
    pub(super) fn is_settled(&self, now: SystemTime) -> bool {
        self.is_older(TICK, nanoseconds(now))
    }

    /// Whether the file had not been changed for this long at a time.
    fn is_older(&self, than: u64, at: u64) -> bool {
        self.modified.max(self.changed).saturating_add(than) < at
    }
}

/// A file that was hashed.
#[derive(Debug)]
pub(super) struct Hashed {
    pub(super) digest: String,
    stamp: Stamp,
    /// When reading began.
    began: u64,
    /// Whether the file stayed the same meanwhile.
    steady: bool,
}

impl Hashed {
    /// Hashes a file.
    pub(super) fn read(path: &Path, clock: &dyn Clock) -> Result<Self> {
        Self::made(path, clock, digest_file)
    }

    /// Makes something else of a file, which stands in the digest's place.
    pub(super) fn made(path: &Path, clock: &dyn Clock, make: impl FnOnce(&Path) -> Result<String>) -> Result<Self> {
        let stamp = Stamp::of(&fs::metadata(path)?);
        let began = nanoseconds(clock.date());
        let digest = make(path)?;
        let steady = Stamp::of(&fs::metadata(path)?) == stamp;
        Ok(Self { digest, stamp, began, steady })
    }
}

/// Digests by a name for the file, kept in a file of their own.
#[derive(Debug, Default)]
pub(super) struct DigestTable {
    path: Option<PathBuf>,
    known: BTreeMap<String, CachedDigest>,
    changed: bool,
}

#[derive(Clone, Debug, Deserialize, Serialize)]
struct CachedDigest {
    stamp: Stamp,
    digest: String,
    /// Not to be trusted by the next process.
    #[serde(skip)]
    is_fresh: bool,
}

impl DigestTable {
    /// Reads a memory; a missing or unreadable one is empty.
    pub(super) fn open(path: PathBuf) -> Self {
        let known = std::fs::read(&path).ok().and_then(|text| serde_json::from_slice(&text).ok()).unwrap_or_default();
        Self { path: Some(path), known, changed: false }
    }

    /// The digest of a file that hasn't changed since it was learned.
    pub(super) fn get(&self, name: &str, stamp: &Stamp) -> Option<&str> {
        self.known.get(name).filter(|known| known.stamp == *stamp).map(|known| known.digest.as_str())
    }

    /// Learns a digest, as far as it can be trusted.
    pub(super) fn learn(&mut self, name: String, hashed: &Hashed) {
        if !hashed.steady || !hashed.stamp.is_older(TICK, hashed.began) {
            return self.forget(&name);
        }
        let is_fresh = !hashed.stamp.is_older(SETTLED, hashed.began);
        self.changed |= !is_fresh;
        self.known.insert(name, CachedDigest { stamp: hashed.stamp, digest: hashed.digest.clone(), is_fresh });
    }

    pub(super) fn forget(&mut self, name: &str) {
        self.changed |= self.known.remove(name).is_some_and(|known| !known.is_fresh);
    }

    /// Forgets all but these.
    pub(super) fn retain(&mut self, keep: &dyn Fn(&str) -> bool) {
        let before = self.known.len();
        self.known.retain(|name, _| keep(name));
        self.changed |= self.known.len() < before;
    }

    /// Writes what was learned, if anything. A store that can't be written to is no error here: the digests are merely
    /// computed again next time.
    pub(super) fn save(&mut self) {
        let Some(path) = self.path.as_ref().filter(|_| self.changed) else { return };
        let settled: BTreeMap<_, _> = self.known.iter().filter(|(_, known)| !known.is_fresh).collect();
        let written = || -> Option<()> {
            let dir = path.parent()?;
            std::fs::create_dir_all(dir).ok()?;
            let mut file = atomic::create(dir).ok()?;
            std::io::Write::write_all(&mut file, &serde_json::to_vec(&settled).ok()?).ok()?;
            file.persist(path).ok()?;
            Some(())
        };
        if written().is_some() {
            self.changed = false;
        }
    }
}

fn nanoseconds(time: SystemTime) -> u64 {
    time.duration_since(UNIX_EPOCH).map_or(0, |since| u64::try_from(since.as_nanos()).unwrap_or(u64::MAX))
}
