//! A cache that machines share: artifacts in an object store (S3, Google Cloud, Azure), a directory or behind a web
//! server, beside the local store.
//!
//! Layout below the URL, with `v1` naming its version, so that another version finds nothing rather than nonsense:
//!
//! ```text
//! v1/blobs/DIGEST   a file's bytes, under their BLAKE3: equal files are there once
//! v1/records/KEY    the artifact's record, as it is in a store; written after its files
//! v1/files/PATH     files of a run on machines that have the remote in common alone, as they are in a store
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
mod files;
mod hints;
mod inspect;
mod push;
mod record;
mod record_cache;
mod shared;
mod sound;
mod states;

use std::{
    fmt,
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

use crate::engine::store::{Artifact, Claim, FileRecord, Store, short};
use push::Effort;
use shared::Shared;

pub use address::Limits;
pub use files::Marks;
pub use inspect::RemoteVerification;
pub use push::Delivery;
pub use record::{decode, encode};

/// Larger files aren't held in memory.
const SMALL: u64 = 1 << 30;

/// One file of an artifact, out of the local store or else out of the remote, with the bytes that its record tells; `None`
/// where it can't be had.
pub fn small_file(artifact: &Artifact, name: &str, remote: Option<&Remote>) -> Option<Vec<u8>> {
    let file = artifact.files.iter().find(|file| file.path == name && file.bytes <= SMALL)?;
    let here = std::fs::read(artifact.file(name)).ok();
    let here = here.filter(|bytes| blake3::hash(bytes).to_hex().as_str() == file.digest);
    here.or_else(|| remote?.read(artifact, file))
}

/// A shared cache, and what this process knows of it.
pub struct Remote {
    shared: Arc<Shared>,
    read_only: bool,
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
        Self::open_with(url, store, &Limits::from_environment(), report)
    }

    /// As [`Self::open`], waiting for so long.
    ///
    /// # Errors
    /// As [`Self::open`].
    pub fn open_with(
        url: &str,
        store: &Store,
        limits: &Limits,
        report: impl Fn(&str) + Send + Sync + 'static,
    ) -> Result<Self> {
        let (address, objects) = address::open(url, limits)?;
        let runtime = Builder::new_multi_thread().worker_threads(2).enable_all().build();
        let shared = Shared::new(address, objects, store, limits, Box::new(report));
        let runtime = runtime.context("failed to start the threads for the remote")?;
        Ok(Self { shared: Arc::new(shared), read_only: false, pushes: Mutex::default(), runtime })
    }

    /// The same, and if so nothing is ever written to it: what is pushed stays here.
    pub fn read_only(self, read_only: bool) -> Self {
        Self { read_only, ..self }
    }

    /// Whether nothing is written to it.
    pub fn is_read_only(&self) -> bool {
        self.read_only
    }

    /// Its URL, which holds no secrets.
    pub fn url(&self) -> &str {
        self.shared.address.url()
    }

    /// From now on the remote is asked each time, whatever is remembered of it; also that it didn't answer, or took nothing.
    pub fn ask(&self) {
        self.shared.asks.store(true, Ordering::Relaxed);
        for given_up in [&self.shared.offline, &self.shared.refuses] {
            given_up.store(false, Ordering::Relaxed);
        }
    }

    /// Whether it didn't answer when it was last asked, so that what it has isn't known.
    pub fn is_away(&self) -> bool {
        self.shared.offline.load(Ordering::Relaxed)
    }

    /// The record of the artifact with this key, where the remote has a sound one. The artifact's files are not in the
    /// local store: see [`Self::materialise`]. A remote that can't be reached has nothing, which is reported once.
    pub fn find(&self, key: &str) -> Option<Artifact> {
        self.runtime.block_on(self.shared.find(key))
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
            let parts = self.shared.store.parts(&artifact.key);
            let linked = self.shared.link_local(artifact, &parts)?;
            let fetch = blobs::fetch(&self.shared, artifact, &linked, &parts, slot.dir(), progress);
            self.runtime.block_on(fetch)?;
            let stored = slot.commit_as(artifact)?;
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

    /// A file of an artifact that was [found](Self::find), or `None` where it can't be had.
    fn read(&self, artifact: &Artifact, file: &FileRecord) -> Option<Vec<u8>> {
        if self.shared.is_bad(&file.digest) || self.shared.offline.load(Ordering::Relaxed) {
            return None;
        }
        match self.runtime.block_on(blobs::read(&self.shared, file)) {
            Ok(bytes) => {
                self.shared.files.fetch_add(1, Ordering::Relaxed);
                Some(bytes)
            }
            Err(error) => {
                // That it can't be reached was told.
                if !self.shared.offline.load(Ordering::Relaxed) {
                    // Whether the rest is there is asked next time.
                    self.shared.cache.forget(&artifact.key);
                    (self.shared.report)(&format!("warning: {error:#}"));
                }
                None
            }
        }
    }

    /// Uploads an artifact of the local store in the background: first its files, as
    /// far as they aren't there, then the record. `computed` says that it was just made, and so replaces a record that
    /// is there.
    pub fn push(&self, artifact: &Artifact, computed: bool) {
        if self.read_only || !computed && self.shared.cache.read(&artifact.key, false).is_some() {
            return;
        }
        tracing::info!(key = short(&artifact.key), bytes = artifact.bytes(), computed, "pushing to the remote");
        let effort = if computed { Effort::Replace } else { Effort::Record };
        let task = push::push(self.shared.clone(), artifact.clone(), effort);
        let task = self.runtime.spawn(async move {
            task.await;
        });
        self.pushes.lock().push(task);
    }

    /// Sees to it that the remote has an artifact of the local store, with all its files as they should be: what is missing,
    /// cut or damaged there is uploaded. Waits until that's done. Nothing is delivered to a remote that is only read.
    pub fn deliver(&self, artifact: &Artifact) -> Delivery {
        if self.read_only {
            return Delivery::Failed;
        }
        tracing::info!(key = short(&artifact.key), bytes = artifact.bytes(), "looking at what the remote has of it");
        self.runtime.block_on(push::push(self.shared.clone(), artifact.clone(), Effort::Whole))
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
}

impl fmt::Debug for Remote {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Remote").field(&self.url()).finish()
    }
}
