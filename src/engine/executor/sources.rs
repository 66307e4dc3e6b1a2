//! The files that a stage reads, held against its key while it's computed. Others may change them at any time; what was
//! learned from other bytes than those that the key was made of is never kept under it.
//!
//! A look at a file is a look at its stamp. Only where that has moved the file is read again: it may hold other bytes, which
//! ends the computation; or the same as before, which doesn't tell what it held in between, so that the stage starts over.
//! Once a stage has read all of its files it says so ([`Job::has_read`](super::Job::has_read)), and what becomes of them
//! then is no concern of its own.

use std::{
    collections::BTreeMap,
    fmt,
    path::PathBuf,
    sync::atomic::{AtomicBool, Ordering::SeqCst},
    time::{Duration, SystemTime},
};

use anyhow::{Result, bail};
use parking_lot::Mutex;

use crate::{
    engine::{
        plan::Node,
        store::{DigestCache, Manifest, Stamps, Vouch},
    },
    support::Hinted,
};

/// More than a step of the clock by which files are stamped.
const STEP: Duration = Duration::from_millis(25);

/// The files of one computation, as they were when it began.
#[derive(Debug)]
pub(super) struct Sources {
    node: Node,
    /// The digests that its key is made of.
    inputs: BTreeMap<String, String>,
    stamps: Stamps,
    /// For files whose stamps have moved; the run's own memory may be asked meanwhile.
    digests: Mutex<DigestCache>,
    /// Whether all have been read.
    read: AtomicBool,
}

/// A file was touched while it was read, and holds what it held before.
#[derive(Debug)]
pub(super) struct Moved {
    files: String,
}

impl fmt::Display for Moved {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} changed while it was read, and is as it was before", self.files)
    }
}

impl std::error::Error for Moved {}

impl Sources {
    /// Looks at a stage's files before they're read.
    ///
    /// # Errors
    /// If they can't be read, or aren't those that the key was made of.
    pub(super) fn look(node: &Node, manifest: &Manifest, digests: &Mutex<DigestCache>) -> Result<Self> {
        let mut stamps = Stamps::now(node.read_files());
        if !stamps.are_settled(SystemTime::now()) {
            // From then on each change shows.
            std::thread::sleep(STEP);
            stamps = Stamps::now(node.read_files());
        }
        let fresh = Mutex::new(digests.lock().forgetful());
        let inputs = manifest.inputs.clone();
        let sources = Self { node: node.clone(), inputs, stamps, digests: fresh, read: AtomicBool::new(false) };
        sources.compare(&mut digests.lock(), "after the run was planned")?;
        Ok(sources)
    }

    /// All have been read.
    ///
    /// # Errors
    /// As [`Vouch::vouch`].
    pub(super) fn done(&self) -> Result<()> {
        self.vouch()?;
        self.read.store(true, SeqCst);
        Ok(())
    }

    /// All are read once more.
    ///
    /// # Errors
    /// As [`Vouch::vouch`].
    pub(super) fn read_again(&self) -> Result<()> {
        self.read.store(false, SeqCst);
        self.vouch()
    }

    /// That a file changes while it's read, however often that's tried.
    pub(super) fn restless(moved: &Moved) -> Hinted {
        let message = format!("{} changes again and again while it's read", moved.files);
        Hinted::with(message, "run it again when nothing writes to it any more, or name a copy")
    }

    /// The files have to hold what the key was made of.
    fn compare(&self, digests: &mut DigestCache, when: &str) -> Result<()> {
        let now = self.node.file_digests(digests)?;
        let mut changed = now.iter().filter(|(field, digest)| self.inputs.get(*field) != Some(digest));
        let Some((field, _)) = changed.next() else { return Ok(()) };
        bail!(Hinted::with(
            format!("{} changed {when}", names(self.node.files.get(field).map(Vec::as_slice).unwrap_or_default())),
            "run it again, so that its keys and checks hold for what it reads",
        ))
    }
}

impl Vouch for Sources {
    fn vouch(&self) -> Result<()> {
        if self.read.load(SeqCst) {
            return Ok(());
        }
        let moved = self.stamps.moved();
        if moved.is_empty() {
            return Ok(());
        }
        self.compare(&mut self.digests.lock(), &format!("while `{}` read it", self.node.name))?;
        Err(Moved { files: names(&moved) }.into())
    }

    fn inputs(&self) -> &BTreeMap<String, String> {
        &self.inputs
    }
}

fn names(files: &[PathBuf]) -> String {
    files.iter().map(|file| file.display().to_string()).collect::<Vec<_>>().join(", ")
}
