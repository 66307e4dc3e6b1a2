//! What all transfers with a remote share: its address, what is known of it, and counters of what was transferred.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::{Path, PathBuf},
    sync::atomic::{AtomicBool, AtomicU64, Ordering},
};

use anyhow::Result;
use fs_err as fs;
use futures_util::StreamExt;
use object_store::{Error, ObjectStore, ObjectStoreExt};
use parking_lot::{Mutex, MutexGuard};
use tokio::sync::Semaphore;

use super::{address::Address, decode, hints::reason, record_cache::RecordCache};
use crate::{
    engine::store::{Artifact, Store, digest_file, short},
    support::Hinted,
};

/// Transfers at the same time.
pub(super) const PARALLEL: usize = 8;

/// No record is larger.
const LARGEST_RECORD: u64 = 64 << 20;

/// What transfers share.
pub(super) struct Shared {
    pub(super) address: Address,
    pub(super) objects: Box<dyn ObjectStore>,
    pub(super) store: Store,
    pub(super) cache: RecordCache,
    pub(super) report: Box<dyn Fn(&str) + Send + Sync>,
    /// Whether it couldn't be reached, and isn't asked any more.
    pub(super) offline: AtomicBool,
    /// Whether it took an upload badly, and is sent no more of them.
    pub(super) refuses: AtomicBool,
    /// Keys whose record or files turned out to be damaged or missing, and digests of such files.
    pub(super) bad: Mutex<BTreeSet<String>>,
    /// Where the local store has files, by their digests; filled when something is first fetched.
    pub(super) local: Mutex<Option<BTreeMap<String, PathBuf>>>,
    pub(super) gate: Semaphore,
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
        report: Box<dyn Fn(&str) + Send + Sync>,
    ) -> Self {
        Self {
            cache: RecordCache::new(store, &address),
            address,
            objects,
            store: store.clone(),
            report,
            offline: AtomicBool::new(false),
            refuses: AtomicBool::new(false),
            bad: Mutex::default(),
            local: Mutex::default(),
            gate: Semaphore::new(PARALLEL),
            records: AtomicU64::new(0),
            files: AtomicU64::new(0),
            bytes: AtomicU64::new(0),
            pushed: AtomicU64::new(0),
            unpushed: AtomicU64::new(0),
        }
    }

    pub(super) async fn find(&self, key: &str) -> Option<Artifact> {
        if self.is_bad(key) {
            return None;
        }
        let offline = self.offline.load(Ordering::Relaxed);
        let known = self.cache.read(key, offline);
        if known.is_some() || offline {
            tracing::debug!(key = short(key), hit = known.is_some(), offline, "known of the remote");
            return known;
        }
        let asked = self.get_record(key).await;
        tracing::debug!(key = short(key), hit = matches!(asked, Ok(Some(_))), "asked the remote");
        let text = match asked {
            Ok(text) => text?,
            Err(error) => {
                self.unreachable(&error);
                return self.cache.read(key, true);
            }
        };
        self.records.fetch_add(1, Ordering::Relaxed);
        match decode(&text, key) {
            Ok(mut artifact) => {
                artifact.path = self.store.artifact_dir(key);
                self.cache.write(key, &text);
                Some(artifact)
            }
            Err(damage) => {
                (self.report)(&format!("the remote's record of {} is damaged: {damage:#}", &key[..12]));
                self.reject(key);
                None
            }
        }
    }

    /// Remembers where the files of artifacts in the local store are.
    pub(super) fn index_local<'a>(&self, artifacts: impl IntoIterator<Item = &'a Artifact>) {
        let mut local = self.local.lock();
        let local = local.get_or_insert_default();
        for artifact in artifacts {
            local.extend(artifact.files.iter().map(|file| (file.digest.clone(), artifact.file(&file.path))));
        }
    }

    /// Puts those of an artifact's files into `parts` that other artifacts have too, as second names of the same files.
    pub(super) fn link_local(&self, artifact: &Artifact, parts: &Path) -> Result<()> {
        if self.local.lock().is_none() {
            self.index_local(&self.store.list()?);
        }
        let local = self.local.lock();
        fs::create_dir_all(parts)?;
        for file in artifact.blobs() {
            let Some(path) = local.as_ref().and_then(|local| local.get(&file.digest)) else { continue };
            if digest_file(path).is_ok_and(|digest| digest == file.digest) {
                // What can't be linked is fetched.
                let _ = std::fs::hard_link(path, parts.join(&file.digest));
            }
        }
        Ok(())
    }

    pub(super) fn is_bad(&self, key: &str) -> bool {
        self.bad().contains(key)
    }

    /// From now on this process looks for the key, or the file of this digest, in vain, and replaces it.
    pub(super) fn reject(&self, key: &str) {
        self.cache.forget(key);
        self.bad().insert(key.to_owned());
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

    /// Marks the remote as offline, which is reported the first time, unless the same outage has failed a push already.
    pub(super) fn unreachable(&self, error: &object_store::Error) {
        let reported = self.offline.swap(true, Ordering::Relaxed) || self.refuses.load(Ordering::Relaxed);
        if !reported {
            let (url, Hinted { message, hint }) = (self.address.url(), reason(error));
            let message =
                format!("warning: the remote {url} can't be used, continuing with the local store only: {message}");
            (self.report)(&Hinted { message, hint }.lines());
        }
    }

    /// Stops pushing, which is reported the first time, unless the remote is known to be offline.
    pub(super) fn refused(&self, error: &object_store::Error) {
        let reported = self.refuses.swap(true, Ordering::Relaxed) || self.offline.load(Ordering::Relaxed);
        if !reported {
            let (url, Hinted { message, hint }) = (self.address.url(), reason(error));
            let message = format!("warning: pushing to the remote {url} failed, the next run will retry: {message}");
            (self.report)(&Hinted { message, hint }.lines());
        }
    }
}
