//! A cache that machines share: artifacts in an object store (S3, Google Cloud, Azure), a directory or behind a web
//! server, beside the local store.
//!
//! Layout below the URL, with `v1` naming its version, so that another version finds nothing rather than nonsense:
//!
//! ```text
//! v1/blobs/DIGEST   a file's bytes, under their BLAKE3: equal files are there once
//! v1/records/KEY    the artifact's record, as it is in a store; written after its files
//! ```
//!
//! A record is all that a stage's metrics and the keys of the stages after it take, so a hit in the remote brings its
//! record alone. The files come when something reads them, see [`Remote::materialise`]; only then is the artifact in
//! the local store, complete. So the local store, and what verifies or cleans it, knows of no artifact without files.
//! Records that were seen are remembered in `STORE/remote`, which may be removed at any time.
//!
//! The rest of the program is synchronous; futures stay in here.

mod address;
mod blobs;
mod hints;
mod push;
mod record;
mod record_cache;
mod shared;

use std::{
    fmt,
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use anyhow::{Context, Result};
use parking_lot::Mutex;
use tokio::{
    runtime::{Builder, Runtime},
    task::JoinHandle,
};

use crate::engine::store::{Artifact, Claim, Store, short};
use shared::Shared;

pub use record::{decode, encode};

/// One small file of an artifact, out of the local store or else out of the remote; `None` where it can't be had.
pub fn small_file(artifact: &Artifact, name: &str, remote: Option<&Remote>) -> Option<Vec<u8>> {
    std::fs::read(artifact.file(name)).ok().or_else(|| remote?.read(artifact, name))
}

/// A shared cache, and what this process knows of it.
pub struct Remote {
    shared: Arc<Shared>,
    pushes: Mutex<Vec<JoinHandle<()>>>,
    runtime: Runtime,
}

/// What went over the line.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Transferred {
    /// Records that were fetched.
    pub records: u64,
    /// Files that were fetched.
    pub files: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Artifacts that were pushed.
    pub pushed: u64,
    /// Artifacts that the remote lacks and couldn't be given.
    pub unpushed: u64,
    /// Whether the remote answered whenever it was asked.
    pub reachable: bool,
}

impl Remote {
    /// A remote at `url`: `s3://BUCKET/PATH`, `gs://…`, `az://…`, `file:///DIR`, `http://…` or `https://…`. Credentials
    /// and endpoints come from the environment (`AWS_…`, `GOOGLE_…`, `AZURE_…`). Nothing is asked of it yet. `report`
    /// takes messages for the user: the remote can't be reached, or something there is damaged.
    ///
    /// # Errors
    /// URLs that name none of these, or have credentials in them.
    pub fn open(url: &str, store: &Store, report: impl Fn(&str) + Send + Sync + 'static) -> Result<Self> {
        let (address, objects) = address::open(url)?;
        let runtime = Builder::new_multi_thread().worker_threads(2).enable_all().build();
        let shared = Shared::new(address, objects, store, Box::new(report));
        let runtime = runtime.context("failed to start the threads for the remote")?;
        Ok(Self { shared: Arc::new(shared), pushes: Mutex::default(), runtime })
    }

    /// Its URL, which holds no secrets.
    pub fn url(&self) -> &str {
        self.shared.address.url()
    }

    /// The record of the artifact with this key, where the remote has a sound one. The artifact's files are not in the
    /// local store: see [`Self::materialise`]. A remote that can't be reached has nothing, which is reported once.
    pub fn find(&self, key: &str) -> Option<Artifact> {
        self.runtime.block_on(self.shared.find(key))
    }

    /// The records that are known of keys that begin so: those that were seen before, or that of a whole key.
    pub fn matching(&self, start: &str) -> Vec<Artifact> {
        let known = self.shared.cache.matching(start);
        if known.is_empty() && start.len() == 64 { self.find(start).into_iter().collect() } else { known }
    }

    /// Brings the files of an artifact that was [found](Self::find) into the local store. What another transfer has left
    /// or another artifact has isn't fetched again. `progress` receives the number of bytes so far.
    ///
    /// # Errors
    /// If a file is missing, damaged or can't be fetched: the key isn't found any more then, so that it's computed. Or
    /// if the store can't be written.
    pub fn materialise(
        &self,
        artifact: &Artifact,
        waiting: &dyn Fn(),
        progress: &(dyn Fn(u64, u64) + Sync),
    ) -> Result<Artifact> {
        tracing::info!(key = short(&artifact.key), bytes = artifact.bytes(), "fetching files from the remote");
        let fetch = || -> Result<Artifact> {
            let slot = match self.shared.store.claim(artifact.manifest.clone(), false, waiting)? {
                Claim::Hit(artifact) => return Ok(*artifact),
                Claim::Miss(slot) => slot,
            };
            let parts = self.parts(&artifact.key);
            self.shared.link_local(artifact, &parts)?;
            self.runtime.block_on(blobs::fetch(&self.shared, artifact, &parts, slot.dir(), progress))?;
            let stored = slot.commit(artifact.metrics.clone(), artifact.provenance.clone())?;
            self.shared.index_local([&stored]);
            // What is left of the parts is a second name of the artifact's files.
            let _ = std::fs::remove_dir_all(&parts);
            Ok(stored)
        };
        fetch().inspect_err(|error| {
            tracing::info!(
                key = short(&artifact.key),
                error = format!("{error:#}"),
                "not fetched, so not asked for again"
            );
            self.shared.reject(&artifact.key);
        })
    }

    /// One small file of an artifact that was [found](Self::find), or `None` where it can't be had.
    fn read(&self, artifact: &Artifact, name: &str) -> Option<Vec<u8>> {
        let file = artifact.files.iter().find(|file| file.path == name && file.bytes <= blobs::CHUNK)?;
        let bytes = self.runtime.block_on(blobs::read(&self.shared, file)).ok()?;
        self.shared.files.fetch_add(1, Ordering::Relaxed);
        Some(bytes)
    }

    /// Uploads an artifact of the local store in the background: first its files, as
    /// far as they aren't there, then the record. `computed` says that it was just made, and so replaces a record that
    /// is there.
    pub fn push(&self, artifact: &Artifact, computed: bool) {
        if !computed && self.shared.cache.read(&artifact.key, false).is_some() {
            return;
        }
        tracing::info!(key = short(&artifact.key), bytes = artifact.bytes(), computed, "pushing to the remote");
        let task = self.runtime.spawn(push::push(self.shared.clone(), artifact.clone(), computed));
        self.pushes.lock().push(task);
    }

    /// Waits for pending uploads, and returns what was transferred.
    pub fn finish(&self) -> Transferred {
        let pushes = std::mem::take(&mut *self.pushes.lock());
        self.runtime.block_on(async {
            for push in pushes {
                // A push reports its failure itself; a panic was reported by the hook.
                let _ = push.await;
            }
        });
        let shared = &self.shared;
        let count = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        Transferred {
            records: count(&shared.records),
            files: count(&shared.files),
            bytes: count(&shared.bytes),
            pushed: count(&shared.pushed),
            unpushed: count(&shared.unpushed),
            reachable: !shared.offline.load(Ordering::Relaxed),
        }
    }

    /// Where the files of an artifact gather until all are there.
    fn parts(&self, key: &str) -> PathBuf {
        self.shared.store.root().join("remote").join("parts").join(key)
    }
}

impl fmt::Debug for Remote {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Remote").field(&self.url()).finish()
    }
}
