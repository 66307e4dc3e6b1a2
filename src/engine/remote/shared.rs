//! What all transfers with a remote share: its address, what is known of it, and counters of what was transferred.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::{Path, PathBuf},
    sync::atomic::{AtomicBool, AtomicU64, Ordering},
    time::{Duration, Instant},
};

use anyhow::Result;
use fs_err as fs;
use futures_util::StreamExt;
use object_store::{Error, ObjectStore, ObjectStoreExt};
use parking_lot::{Mutex, MutexGuard};
use tokio::sync::Semaphore;

use super::{
    address::{Address, Limits},
    decode,
    hints::{is_outage, reason},
    record_cache::RecordCache,
    sound::SoundBlobs,
};
use crate::{
    engine::store::{Artifact, Store, digest_file, short},
    support::Hinted,
};

/// Transfers at the same time.
pub(super) const PARALLEL: usize = 8;

/// No record is larger.
const LARGEST_RECORD: u64 = 64 << 20;

/// How long a record is believed not to be there yet, so that a sweep asks for each of its stages once.
const ABSENT: Duration = Duration::from_secs(30);

/// What was said of a remote's failures.
#[derive(Default)]
struct Told {
    /// That it can't be reached, by whoever met that first.
    outage: bool,
    /// That it takes nothing.
    refusal: bool,
}

/// What transfers share.
pub(super) struct Shared {
    pub(super) address: Address,
    pub(super) objects: Box<dyn ObjectStore>,
    pub(super) store: Store,
    pub(super) cache: RecordCache,
    pub(super) sound: SoundBlobs,
    pub(super) report: Box<dyn Fn(&str) + Send + Sync>,
    /// Whether it's asked each time, whatever is remembered of it.
    pub(super) asks: AtomicBool,
    /// Whether it couldn't be reached, and isn't asked any more.
    pub(super) offline: AtomicBool,
    /// Whether it took an upload badly, and is sent no more of them.
    pub(super) refuses: AtomicBool,
    told: Mutex<Told>,
    /// Keys whose record or files turned out to be damaged or missing, and digests of such files.
    pub(super) bad: Mutex<BTreeSet<String>>,
    /// Keys that it had no record of, and when.
    absent: Mutex<BTreeMap<String, Instant>>,
    /// Where the local store has files, by their digests; filled when something is first fetched.
    pub(super) local: Mutex<Option<BTreeMap<String, PathBuf>>>,
    pub(super) gate: Semaphore,
    /// What is sent or fetched with one request.
    pub(super) chunk: u64,
    pub(super) records: AtomicU64,
    pub(super) files: AtomicU64,
    pub(super) bytes: AtomicU64,
    pub(super) pushed: AtomicU64,
    pub(super) unpushed: AtomicU64,
}

impl Shared {
    /// A remote that hasn't been asked anything yet.
    pub(super) fn new(
        address: Address,
        objects: Box<dyn ObjectStore>,
        store: &Store,
        limits: &Limits,
        report: Box<dyn Fn(&str) + Send + Sync>,
    ) -> Self {
        Self {
            cache: RecordCache::new(store, &address),
            sound: SoundBlobs::new(store, &address.id()),
            address,
            objects,
            store: store.clone(),
            report,
            asks: AtomicBool::new(false),
            offline: AtomicBool::new(false),
            refuses: AtomicBool::new(false),
            told: Mutex::default(),
            bad: Mutex::default(),
            absent: Mutex::default(),
            local: Mutex::default(),
            gate: Semaphore::new(PARALLEL),
            chunk: limits.chunk.max(1),
            records: AtomicU64::new(0),
            files: AtomicU64::new(0),
            bytes: AtomicU64::new(0),
            pushed: AtomicU64::new(0),
            unpushed: AtomicU64::new(0),
        }
    }

    pub(super) async fn find(&self, key: &str) -> Option<Artifact> {
        let asks = self.asks.load(Ordering::Relaxed);
        if self.is_bad(key) || !asks && self.was_absent(key) {
            return None;
        }
        let offline = self.offline.load(Ordering::Relaxed);
        let remembered = |any| if asks { None } else { self.cache.read(key, any) };
        let known = remembered(offline);
        if known.is_some() || offline {
            tracing::debug!(key = short(key), hit = known.is_some(), offline, "known of the remote");
            return known;
        }
        let asked = self.get_record(key).await;
        tracing::debug!(key = short(key), hit = matches!(asked, Ok(Some(_))), "asked the remote");
        let text = match asked {
            Ok(Some(text)) => text,
            Ok(None) => {
                self.cache.forget(key);
                self.absent.lock().insert(key.to_owned(), Instant::now());
                return None;
            }
            Err(error) => {
                self.unreachable(&error);
                return remembered(true);
            }
        };
        self.records.fetch_add(1, Ordering::Relaxed);
        match self.take(key, &text) {
            Ok(artifact) => Some(artifact),
            Err(damage) => {
                (self.report)(&format!("the remote's record of {} is damaged: {damage:#}", short(key)));
                self.reject(key);
                None
            }
        }
    }

    /// Reads a record that has come, and remembers it.
    ///
    /// # Errors
    /// If it's damaged.
    pub(super) fn take(&self, key: &str, text: &[u8]) -> Result<Artifact> {
        let mut artifact = decode(text, key)?;
        artifact.path = self.store.artifact_dir(key);
        self.cache.write(key, text);
        Ok(artifact)
    }

    /// Remembers where the files of artifacts in the local store are.
    pub(super) fn index_local<'a>(&self, artifacts: impl IntoIterator<Item = &'a Artifact>) {
        let mut local = self.local.lock();
        let local = local.get_or_insert_default();
        for artifact in artifacts {
            local.extend(artifact.files.iter().map(|file| (file.digest.clone(), artifact.file(&file.path))));
        }
    }

    /// Puts those of an artifact's files into `parts` that other artifacts have too, as second names of the same files, and
    /// gives their digests. What is there already, from a transfer that was cut off, stays.
    pub(super) fn link_local(&self, artifact: &Artifact, parts: &Path) -> Result<BTreeSet<String>> {
        if self.local.lock().is_none() {
            self.index_local(&self.store.list()?);
        }
        let local = self.local.lock();
        fs::create_dir_all(parts)?;
        let mut linked = BTreeSet::new();
        for file in artifact.blobs() {
            let Some(path) = local.as_ref().and_then(|local| local.get(&file.digest)) else { continue };
            // What can't be linked is fetched.
            if digest_file(path).is_ok_and(|digest| digest == file.digest)
                && std::fs::hard_link(path, parts.join(&file.digest)).is_ok()
            {
                linked.insert(file.digest.clone());
            }
        }
        Ok(linked)
    }

    pub(super) fn is_bad(&self, key: &str) -> bool {
        self.bad().contains(key)
    }

    /// From now on this process looks for the key, or the file of this digest, in vain, and replaces it.
    pub(super) fn reject(&self, key: &str) {
        self.cache.forget(key);
        self.sound.learn(key, None);
        self.bad().insert(key.to_owned());
    }

    fn was_absent(&self, key: &str) -> bool {
        self.absent.lock().get(key).is_some_and(|asked| asked.elapsed() < ABSENT)
    }

    /// The remote has it, by now.
    pub(super) fn accept(&self, key: &str) {
        self.absent.lock().remove(key);
        self.bad().remove(key);
    }

    fn bad(&self) -> MutexGuard<'_, BTreeSet<String>> {
        self.bad.lock()
    }

    /// The text of a record, or `None` where there is none.
    ///
    /// # Errors
    /// The remote's.
    pub(super) async fn get_record(&self, key: &str) -> object_store::Result<Option<Vec<u8>>> {
        let found = match self.objects.get(&self.address.record(key)).await {
            Ok(found) => found,
            Err(Error::NotFound { .. }) => return Ok(None),
            Err(error) => return Err(error),
        };
        let mut text = Vec::new();
        let mut chunks = found.into_stream();
        while let Some(chunk) = chunks.next().await {
            text.extend(chunk?);
            if text.len() as u64 > LARGEST_RECORD {
                // What is cut off is found to be damaged.
                break;
            }
        }
        Ok(Some(text))
    }

    /// Marks the remote as offline, which is told the first time, unless the same outage has failed a push already.
    pub(super) fn unreachable(&self, error: &Error) {
        self.offline.store(true, Ordering::Relaxed);
        // Under the lock, so that of a question and a push that fail at the same time one is heard.
        let is_known = std::mem::replace(&mut self.told.lock().outage, true);
        if !is_known {
            let url = self.address.url();
            self.tell(&format!("the remote {url} can't be used, continuing with the local store only"), error);
        }
    }

    /// Stops pushing, which is told the first time, unless the remote is known to be offline. A remote that takes nothing
    /// may still be read from: if it can't be reached later, that's told too.
    pub(super) fn refused(&self, error: &Error) {
        self.refuses.store(true, Ordering::Relaxed);
        let mut told = self.told.lock();
        let is_known = told.outage || told.refusal;
        told.refusal = true;
        told.outage |= is_outage(error);
        drop(told);
        if !is_known {
            let url = self.address.url();
            self.tell(&format!("pushing to the remote {url} failed, the next run will retry"), error);
        }
    }

    fn tell(&self, what: &str, error: &Error) {
        let Hinted { message, hint } = reason(error);
        (self.report)(&Hinted { message: format!("warning: {what}: {message}"), hint }.lines());
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Barrier};

    use object_store::client::{HttpError, HttpErrorKind};

    use super::*;
    use crate::engine::remote::address;

    fn outage() -> Error {
        let source = HttpError::new(HttpErrorKind::Connect, std::io::Error::other("connection refused"));
        Error::Generic { store: "test", source: Box::new(source) }
    }

    fn denial() -> Error {
        Error::PermissionDenied { path: "v1".into(), source: "read-only".into() }
    }

    /// What is told of what `happens` to a remote.
    fn told(happens: impl FnOnce(&Shared)) -> Vec<String> {
        let dir = tempfile::tempdir().unwrap();
        let limits = Limits::default();
        let (address, objects) = address::open("http://host/cache", &limits).unwrap();
        let lines = Arc::new(Mutex::new(Vec::new()));
        let heard = lines.clone();
        let report = Box::new(move |line: &str| heard.lock().push(line.to_owned()));
        happens(&Shared::new(address, objects, &Store::open(dir.path()).unwrap(), &limits, report));
        std::mem::take(&mut *lines.lock())
    }

    #[test]
    fn an_outage_is_told_once_whoever_meets_it_first() {
        let questions_first = told(|shared| {
            shared.unreachable(&outage());
            shared.refused(&outage());
            shared.unreachable(&outage());
        });
        assert!(questions_first.len() == 1 && questions_first[0].contains("can't be used"), "{questions_first:?}");
        let pushes_first = told(|shared| {
            shared.refused(&outage());
            shared.unreachable(&outage());
            shared.refused(&outage());
        });
        assert!(pushes_first.len() == 1 && pushes_first[0].contains("pushing to the remote"), "{pushes_first:?}");
        // And at the same time: neither is silent for the other's sake.
        for _ in 0..200 {
            let at_once = told(|shared| {
                let start = Barrier::new(2);
                let together = |meets: fn(&Shared, &Error)| {
                    start.wait();
                    meets(shared, &outage());
                };
                std::thread::scope(|scope| {
                    scope.spawn(|| together(Shared::unreachable));
                    scope.spawn(|| together(Shared::refused));
                });
            });
            assert_eq!(at_once.len(), 1, "{at_once:?}");
        }
    }

    #[test]
    fn an_outage_after_a_refusal_is_another_matter_and_told() {
        let lines = told(|shared| {
            shared.refused(&denial());
            shared.refused(&denial());
            shared.unreachable(&outage());
            shared.unreachable(&outage());
        });
        assert!(lines.len() == 2 && lines[1].contains("connection refused"), "{lines:?}");
        let lines = told(|shared| {
            shared.unreachable(&denial());
            shared.refused(&denial());
        });
        assert_eq!(lines.len(), 1, "{lines:?}");
    }
}
