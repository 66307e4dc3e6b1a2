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
//! A record is all that a stage's figures and the keys of the stages after it take, so a hit in the remote brings its
//! record alone. The files come when something reads them, see [`Remote::materialise`]; only then is the artifact in
//! the local store, complete. So the local store, and what verifies or cleans it, knows of no artifact without files.
//! Records that were seen are remembered in `STORE/remote`, which may be removed at any time.
//!
//! The rest of the program is synchronous; futures stay in here.

mod blobs;
mod memory;
mod place;
mod push;
mod record;
mod trouble;

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
};

use anyhow::{Context, Result};
use fs_err as fs;
use object_store::ObjectStore;
use tokio::{
    runtime::{Builder, Runtime},
    sync::Semaphore,
    task::JoinHandle,
};

use crate::engine::store::{Artifact, Claim, Store, digest_file, short};
use memory::Memory;
use place::Place;

pub use record::{decode, encode};

/// Transfers at the same time.
const PARALLEL: usize = 8;

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

/// What transfers share.
struct Shared {
    place: Place,
    objects: Box<dyn ObjectStore>,
    store: Store,
    memory: Memory,
    tell: Box<dyn Fn(&str) + Send + Sync>,
    /// Whether it couldn't be reached, and isn't asked any more.
    offline: AtomicBool,
    /// Whether it took an upload badly, and is sent no more of them.
    refuses: AtomicBool,
    /// Keys whose record or files turned out to be damaged or missing, and digests of such files.
    bad: Mutex<BTreeSet<String>>,
    /// Where the local store has files, by their digests; filled when something is first fetched.
    local: Mutex<Option<BTreeMap<String, PathBuf>>>,
    gate: Semaphore,
    records: AtomicU64,
    files: AtomicU64,
    bytes: AtomicU64,
    pushed: AtomicU64,
    unpushed: AtomicU64,
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
    /// and endpoints come from the environment (`AWS_…`, `GOOGLE_…`, `AZURE_…`). Nothing is asked of it yet. `tell` is
    /// told what a person should read: that it can't be reached, or that something there is damaged.
    ///
    /// # Errors
    /// URLs that name none of these, or have credentials in them.
    pub fn open(url: &str, store: &Store, tell: impl Fn(&str) + Send + Sync + 'static) -> Result<Self> {
        let (place, objects) = place::open(url)?;
        let runtime = Builder::new_multi_thread().worker_threads(2).enable_all().build();
        let shared = Shared {
            memory: Memory::new(store, &place),
            place,
            objects,
            store: store.clone(),
            tell: Box::new(tell),
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
        };
        let runtime = runtime.context("failed to start the threads for the remote")?;
        Ok(Self { shared: Arc::new(shared), pushes: Mutex::default(), runtime })
    }

    /// Its URL, which holds no secrets.
    pub fn url(&self) -> &str {
        self.shared.place.url()
    }

    /// The record of the artifact with this key, where the remote has a sound one. The artifact's files are not in the
    /// local store: see [`Self::materialise`]. A remote that can't be reached has nothing, which is told once.
    pub fn find(&self, key: &str) -> Option<Artifact> {
        self.runtime.block_on(self.shared.find(key))
    }

    /// The records that are known of keys that begin so: those that were seen before, or that of a whole key.
    pub fn matching(&self, start: &str) -> Vec<Artifact> {
        let known = self.shared.memory.matching(start);
        if known.is_empty() && start.len() == 64 { self.find(start).into_iter().collect() } else { known }
    }

    /// Brings the files of an artifact that was [found](Self::find) into the local store. What another transfer has left
    /// or another artifact has isn't fetched again. `progress` is told how many of the bytes are there.
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
            self.shared.know_local([&stored]);
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

    /// Sees to it, while the program goes on, that the remote has an artifact of the local store: first its files, as
    /// far as they aren't there, then the record. `computed` says that it was just made, and so replaces a record that
    /// is there.
    pub fn push(&self, artifact: &Artifact, computed: bool) {
        if !computed && self.shared.memory.read(&artifact.key, false).is_some() {
            return;
        }
        tracing::info!(key = short(&artifact.key), bytes = artifact.bytes(), computed, "pushing to the remote");
        let task = self.runtime.spawn(push::push(self.shared.clone(), artifact.clone(), computed));
        self.pushes.lock().unwrap_or_else(PoisonError::into_inner).push(task);
    }

    /// Waits for what is being pushed, and tells what went over the line.
    pub fn finish(&self) -> Transferred {
        let pushes = std::mem::take(&mut *self.pushes.lock().unwrap_or_else(PoisonError::into_inner));
        self.runtime.block_on(async {
            for push in pushes {
                // A push tells of its failure itself; a panic was told by the hook.
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

impl Shared {
    async fn find(&self, key: &str) -> Option<Artifact> {
        if self.is_bad(key) {
            return None;
        }
        let offline = self.offline.load(Ordering::Relaxed);
        let known = self.memory.read(key, offline);
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
                return self.memory.read(key, true);
            }
        };
        self.records.fetch_add(1, Ordering::Relaxed);
        match decode(&text, key) {
            Ok(mut artifact) => {
                artifact.path = self.store.artifact_dir(key);
                self.memory.write(key, &text);
                Some(artifact)
            }
            Err(damage) => {
                (self.tell)(&format!("the remote's record of {} is damaged: {damage:#}", &key[..12]));
                self.reject(key);
                None
            }
        }
    }

    /// Remembers where the files of artifacts in the local store are.
    fn know_local<'a>(&self, artifacts: impl IntoIterator<Item = &'a Artifact>) {
        let mut local = self.local.lock().unwrap_or_else(PoisonError::into_inner);
        let local = local.get_or_insert_default();
        for artifact in artifacts {
            local.extend(artifact.files.iter().map(|file| (file.digest.clone(), artifact.file(&file.path))));
        }
    }

    /// Puts those of an artifact's files into `parts` that other artifacts have too, as second names of the same files.
    fn link_local(&self, artifact: &Artifact, parts: &Path) -> Result<()> {
        if self.local.lock().unwrap_or_else(PoisonError::into_inner).is_none() {
            self.know_local(&self.store.list()?);
        }
        let local = self.local.lock().unwrap_or_else(PoisonError::into_inner);
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

    fn is_bad(&self, key: &str) -> bool {
        self.bad().contains(key)
    }

    /// From now on this process looks for the key, or the file of this digest, in vain, and replaces it.
    fn reject(&self, key: &str) {
        self.memory.forget(key);
        self.bad().insert(key.to_owned());
    }

    fn bad(&self) -> MutexGuard<'_, BTreeSet<String>> {
        self.bad.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
