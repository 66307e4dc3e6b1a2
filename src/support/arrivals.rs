//! Digests of files that this process wrote itself, so that nobody reads them again to know what they hold.

use std::{
    collections::BTreeMap,
    fs::Metadata,
    path::{Path, PathBuf},
    time::SystemTime,
};

use parking_lot::Mutex;

/// A file's size and when it was changed, and its BLAKE3.
type Arrival = (u64, SystemTime, String);

static ARRIVALS: Mutex<BTreeMap<PathBuf, Arrival>> = Mutex::new(BTreeMap::new());

/// A file was written, and nobody else writes to it.
pub(crate) fn learn(path: &Path, digest: &str) {
    let Ok(path) = path.canonicalize() else { return };
    if let Some((size, changed)) = path.metadata().ok().as_ref().and_then(stamp) {
        ARRIVALS.lock().insert(path, (size, changed, digest.to_owned()));
    }
}

/// The digest of a file, by its canonical path, if it's as it was written.
pub(crate) fn digest(path: &Path, now: &Metadata) -> Option<String> {
    let arrivals = ARRIVALS.lock();
    let (size, changed, digest) = arrivals.get(path)?;
    (stamp(now)? == (*size, *changed)).then(|| digest.clone())
}

fn stamp(metadata: &Metadata) -> Option<(u64, SystemTime)> {
    Some((metadata.len(), metadata.modified().ok()?))
}
