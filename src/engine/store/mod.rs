//! The content-addressed store: what has been computed, under the key of what it was computed from.
//!
//! Layout, with `format` naming its version:
//!
//! ```text
//! artifacts/KEY/   artifact.json and the stage's files; complete as soon as it's there
//! tmp/             slots being written, renamed into artifacts/ when done, and states to resume from
//! states/KEY.state where finished trainings stood, for longer ones to resume from; can be removed at any time
//! rungs/KEY.state  what a training had measured when it paused at a rung of a sweep
//! format.lock      there for an instant while a lease changes hands, where locks of files don't hold
//! leases/KEY       there while KEY is being computed; names the holder
//! pins/NAME        an artifact that is to be kept
//! gpu/             what was found out about the drivers of GPUs, and the kernels made for them; can be removed at any time
//! digests.json     remembered digests of input files
//! sound.json       remembered digests of artifacts' files
//! log/             what runs did, a file of events for each; can be removed at any time
//! tensorboard/     event files of trainings, each in a folder that its key's beginning names; can be removed at any time
//! jobs/            runs on clusters, a folder each, and the program that their jobs run; can be removed when they have ended
//! inputs/          data that jobs of clusters read, under its digest; can be removed when they have ended
//! remote/          what is known of remotes, and files that are being fetched
//! ```

mod artifact;
pub mod atomic;
mod canonical;
mod check;
mod claim;
mod digest;
mod digest_table;
mod disk;
mod format;
mod gc;
mod guard;
mod hints;
mod holder;
mod integrity;
mod lease;
mod manifest;
mod pins;
mod record;
mod room;
mod slot;
mod stamps;
mod state;
mod throughput;
mod transfers;
mod verify;
mod workspace;

use std::{
    path::{Path, PathBuf},
    sync::{Arc, atomic::AtomicBool},
    time::{Duration, SystemTime},
};

use anyhow::{Result, bail};
use fs_err as fs;

pub use artifact::{Artifact, FileRecord, Metrics, Provenance};
pub use canonical::canonical_json;
pub use claim::{Claim, Held};
pub use digest::{DigestCache, Reading};
pub use digest_table::digest_file;
use disk::Disk;
pub use gc::{Garbage, GarbageKind, GcPlan, GcVerdict};
pub(crate) use holder::host;
use integrity::Integrity;
pub use lease::{KeyWatch, LeftBehind, Stopped};
use lease::{Lease, Leases};
pub use manifest::{Manifest, short};
pub use pins::Pin;
pub use room::{free_space, is_full};
pub use slot::{Lost, Slot};
pub(crate) use stamps::Stamps;
pub use state::{PackedState, State, Vouch};
pub use throughput::{Throughput, ThroughputWindow, unix_time};
pub use verify::{Damage, Verification};
use workspace::Workspace;
pub(in crate::engine) use workspace::clear_directory;

use crate::support::clock::Clock;

/// How exact the time of an artifact's last use is.
const USE: Duration = Duration::from_secs(3600);

/// A directory of artifacts. Copies share what they remember.
#[derive(Clone, Debug)]
pub struct Store {
    root: PathBuf,
    leases: Leases,
    integrity: Arc<Integrity>,
    disk: Disk,
}

/// What there is under a key. What can't be read at all is an error instead.
pub enum Found {
    /// An artifact, as it was written.
    Intact(Box<Artifact>),
    /// Something that isn't what was written, and why. It's as good as nothing, and is replaced when it's computed again.
    Damaged(anyhow::Error),
    /// Nothing.
    Nothing,
}

impl Found {
    /// # Errors
    /// If it couldn't be read.
    fn of(read: Result<Option<Artifact>>) -> Result<Self> {
        match read {
            Ok(Some(artifact)) => Ok(Self::Intact(Box::new(artifact))),
            Ok(None) => Ok(Self::Nothing),
            Err(error) if is_unreadable(&error) => Err(error),
            Err(damage) => Ok(Self::Damaged(damage)),
        }
    }
}

/// Whether the file system didn't let something be read, so that nothing is known of what was written. What is missing,
/// cut short or something else than a file is known: it's damaged.
fn is_unreadable(error: &anyhow::Error) -> bool {
    use std::io::ErrorKind::{InvalidData, IsADirectory, NotADirectory, NotFound, UnexpectedEof};
    let kinds = error.chain().filter_map(|cause| cause.downcast_ref::<std::io::Error>()).map(std::io::Error::kind);
    kinds.into_iter().any(|kind| !matches!(kind, NotFound | UnexpectedEof | InvalidData | NotADirectory | IsADirectory))
}

impl Store {
    /// Opens the store at `root`; it's created when something is first written to it. What processes that were killed have
    /// left of files half written is cleared away.
    ///
    /// # Errors
    /// If a store of another format is there, or one whose folders lie on several file systems.
    pub fn open(root: &Path) -> Result<Self> {
        format::check(root)?;
        let leases = Leases::new(root);
        leases.clear_leftovers();
        for dir in [root, &root.join("pins")] {
            atomic::clear(dir, false);
        }
        let integrity = Arc::new(Integrity::new(root, leases.clock.clone()));
        Ok(Self { root: root.to_owned(), leases, integrity, disk: Disk::of(root) })
    }

    /// The same store by another clock: when leases count as left behind, and files as settled.
    pub fn with_clock(mut self, clock: Arc<dyn Clock>) -> Self {
        self.integrity = Arc::new(Integrity::new(&self.root, clock.clone()));
        self.leases.clock = clock;
        self
    }

    /// The same store; when `stop` is set, claims that wait for another process end with [`Stopped`].
    pub fn stopped_by(mut self, stop: Arc<AtomicBool>) -> Self {
        self.leases.stop = stop;
        self
    }

    /// The store's directory.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// The artifact with this key, if there is one. To find it is to use it, as `pipe gc` sees it.
    ///
    /// # Errors
    /// If it's damaged: [`Store::claim`] counts that as a miss.
    pub fn find(&self, key: &str) -> Result<Option<Artifact>> {
        let dir = self.artifact_dir(key);
        let mut found = Artifact::read_verified(&dir, &self.integrity)?;
        if found.is_none() && self.disk.forgets() {
            // Who opens a directory learns of the names that others have made in it.
            let _ = std::fs::read_dir(self.root.join("artifacts")).map(|mut entries| entries.next());
            found = Artifact::read_verified(&dir, &self.integrity)?;
        }
        found.iter().for_each(|artifact| self.touch(artifact));
        Ok(found)
    }

    /// As [`Store::find`], distinguishing damage from read errors. What a process left that was killed just
    /// after it had made the artifact goes away.
    ///
    /// # Errors
    /// If it can't be read.
    pub fn look(&self, key: &str) -> Result<Found> {
        let found = Found::of(self.find(key))?;
        if let Found::Intact(_) = found {
            // In a store that can't be written to, it stays.
            let _ = self.clean_up(key);
        }
        Ok(found)
    }

    /// As [`Store::look`], without looking at the files.
    ///
    /// # Errors
    /// If the record can't be read.
    pub fn look_at_record(&self, key: &str) -> Result<Found> {
        Found::of(self.record(key))
    }

    /// As [`Store::find`], without looking at the files: for showing what it's of.
    ///
    /// # Errors
    /// If the record is damaged.
    pub fn record(&self, key: &str) -> Result<Option<Artifact>> {
        Artifact::record(&self.artifact_dir(key))
    }

    /// All artifacts, newest first; damaged ones are left out, as far as that shows without reading their files.
    ///
    /// # Errors
    /// If the directory can't be listed.
    pub fn list(&self) -> Result<Vec<Artifact>> {
        let read = |key: String| Artifact::read(&self.artifact_dir(&key)).ok().flatten();
        let mut found: Vec<_> = self.keys()?.into_iter().filter_map(read).collect();
        found.sort_by(|a, b| {
            (b.provenance.started, &b.key).partial_cmp(&(a.provenance.started, &a.key)).unwrap_or(a.key.cmp(&b.key))
        });
        Ok(found)
    }

    /// The keys of all artifacts, sorted, damaged ones too.
    ///
    /// # Errors
    /// If the directory can't be listed.
    pub fn keys(&self) -> Result<Vec<String>> {
        let dir = self.root.join("artifacts");
        if !dir.exists() {
            return Ok(Vec::new());
        }
        let mut keys = Vec::new();
        for entry in fs::read_dir(dir)? {
            // Whatever else is there is not the store's.
            keys.extend(entry?.file_name().into_string().ok().filter(|name| check::is_digest(name)));
        }
        keys.sort();
        Ok(keys)
    }

    /// The one key that begins with `prefix`.
    ///
    /// # Errors
    /// If there's none, or more than one.
    pub fn key(&self, prefix: &str) -> Result<String> {
        let mut found: Vec<_> = self.keys()?.into_iter().filter(|key| key.starts_with(prefix)).collect();
        match (found.pop(), found.len()) {
            (Some(key), 0) => Ok(key),
            (None, _) => bail!("no artifact's key begins with `{prefix}`; `pipe ls` lists them"),
            (_, more) => bail!("{} artifacts' keys begin with `{prefix}`; give more of the key", more + 1),
        }
    }

    /// Notes that an artifact is of use, by the time of its directory.
    fn touch(&self, artifact: &Artifact) {
        let used = std::fs::metadata(&artifact.path).and_then(|metadata| metadata.modified());
        if used.is_ok_and(|used| used.elapsed().is_ok_and(|since| since > USE)) {
            // A store that can't be written to is not cleared either.
            let _ = std::fs::File::open(&artifact.path).and_then(|dir| dir.set_modified(SystemTime::now()));
        }
    }

    /// Where trainings that differ in their length only leave how far they came, under the key of what they share.
    pub fn shared_state(&self, key: &str) -> State {
        State::new(Workspace::shared_state(&self.root.join("states"), key), key)
    }

    /// What a training with this key had measured when it last paused at a rung of a sweep.
    pub fn rung(&self, key: &str) -> State {
        State::new(Workspace::shared_state(&self.root.join("rungs"), key), key)
    }

    /// Where TensorBoard's event files lie, unless they're wanted elsewhere.
    pub fn tensorboard(&self) -> PathBuf {
        self.root.join("tensorboard")
    }

    /// Where runs tell what they do.
    pub fn log(&self) -> PathBuf {
        self.root.join("log")
    }

    /// What a computation with this key that was stopped has left, if it has.
    pub fn state(&self, key: &str) -> Option<State> {
        let states = workspace::entries(&self.root.join("tmp")).ok()?.into_iter().filter(|entry| entry.key == key);
        let newest = states.filter(|entry| entry.is_state()).max_by_key(|entry| entry.modified())?;
        Some(State::new(newest.path, key))
    }

    /// Where a state is put that comes from another machine; the next computation with this key resumes from it.
    pub fn brought_state(&self, key: &str) -> State {
        State::new(Workspace::shared_state(&self.root.join("tmp"), key), key)
    }

    /// Removes what a process has left that was killed just after it had made the artifact.
    fn clean_up(&self, key: &str) -> Result<()> {
        if self.leases.holder(key)?.is_some_and(|holder| holder.is_gone()) {
            self.tidy(key, &self.leases.take(key, Vec::new(), &|| {})?)?;
        }
        Ok(())
    }

    /// Removes all that the holder of a lease finds in `tmp/` of its key.
    fn tidy(&self, key: &str, lease: &Lease) -> Result<()> {
        workspace::remove(&Workspace::take_over(&self.root.join("tmp"), key, lease.token(), false)?.slot())
    }

    /// Where the artifact with this key lies, or would.
    pub(crate) fn artifact_dir(&self, key: &str) -> PathBuf {
        self.root.join("artifacts").join(key)
    }

    /// Makes the store, if it isn't there.
    pub(crate) fn create(&self) -> Result<()> {
        format::create(&self.root)
    }
}
