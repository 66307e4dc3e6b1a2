//! The content-addressed store: what has been computed, under the key of what it was computed from.
//!
//! Layout, with `format` naming its version:
//!
//! ```text
//! artifacts/KEY/   artifact.json and the stage's files; complete as soon as it's there
//! tmp/             slots being written, renamed into artifacts/ when done
//! locks/KEY        there and locked while KEY is being computed
//! digests.json     remembered digests of input files
//! remote/          what is known of remotes, and files that are being fetched
//! ```

mod artifact;
mod canonical;
mod check;
mod digest;
mod lock;
mod manifest;
mod slot;

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use fs_err as fs;

pub use artifact::{Artifact, FileRecord, Metrics, Provenance};
pub use canonical::canonical_json;
pub use digest::{DigestCache, digest_file};
use lock::Lock;
pub use manifest::Manifest;
pub use slot::Slot;

const FORMAT: &str = "1";

/// A directory of artifacts.
#[derive(Clone, Debug)]
pub struct Store {
    root: PathBuf,
}

/// What came of asking for a key.
pub enum Claim {
    /// It's there.
    Hit(Box<Artifact>),
    /// It isn't, and the caller is the one to compute it.
    Miss(Box<Slot>),
}

impl Store {
    /// Opens the store at `root`; it's created when something is first written to it.
    ///
    /// # Errors
    /// If a store of another format is there.
    pub fn open(root: &Path) -> Result<Self> {
        let marker = root.join("format");
        match std::fs::read_to_string(&marker) {
            Ok(found) if found.trim() == FORMAT => {}
            Ok(found) => bail!(
                "the store at {} has format {}, and this version of pipe reads format {FORMAT}: \
                 name another one with --store, or remove it",
                root.display(),
                found.trim()
            ),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
            Err(error) => return Err(error).with_context(|| format!("failed to open the store at {}", root.display())),
        }
        Ok(Self { root: root.to_owned() })
    }

    /// The store's directory.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// The artifact with this key, if there is one.
    ///
    /// # Errors
    /// If it's damaged: [`Store::claim`] counts that as a miss.
    pub fn find(&self, key: &str) -> Result<Option<Artifact>> {
        Artifact::read(&self.artifact_dir(key))
    }

    /// All artifacts, newest first; damaged ones are left out.
    ///
    /// # Errors
    /// If the directory can't be listed.
    pub fn list(&self) -> Result<Vec<Artifact>> {
        let dir = self.root.join("artifacts");
        if !dir.exists() {
            return Ok(Vec::new());
        }
        let mut found = Vec::new();
        for entry in fs::read_dir(dir)? {
            if let Ok(Some(artifact)) = Artifact::read(&entry?.path()) {
                found.push(artifact);
            }
        }
        found.sort_by(|a, b| {
            (b.provenance.started, &b.key).partial_cmp(&(a.provenance.started, &a.key)).unwrap_or(a.key.cmp(&b.key))
        });
        Ok(found)
    }

    /// Asks for the artifact of `manifest`. On a miss the caller holds the key until the slot is committed or dropped;
    /// whoever asks for the same key meanwhile waits, and `waiting` is called once before that. With `force` what is
    /// there is computed again, as is what's damaged.
    ///
    /// # Errors
    /// If the store can't be written.
    pub fn claim(&self, manifest: Manifest, force: bool, waiting: &dyn Fn()) -> Result<Claim> {
        let key = manifest.key();
        let stored = || if force { Ok(None) } else { self.find(&key) };
        if let Ok(Some(artifact)) = stored() {
            return Ok(Claim::Hit(Box::new(artifact)));
        }
        self.create()?;
        let lock = Lock::take(self.root.join("locks").join(&key), waiting)?;
        let damage = match stored() {
            Ok(Some(artifact)) => return Ok(Claim::Hit(Box::new(artifact))),
            Ok(None) => None,
            Err(damage) => Some(damage),
        };
        let dir = self.root.join("tmp").join(&key);
        slot::remove_dir(&dir)?;
        if force {
            slot::remove_dir(&slot::state_dir(&dir))?;
        }
        fs::create_dir_all(&dir)?;
        Ok(Claim::Miss(Box::new(Slot::new(manifest, dir, self.artifact_dir(&key), damage, lock))))
    }

    /// Where the artifact with this key lies, or would.
    pub(crate) fn artifact_dir(&self, key: &str) -> PathBuf {
        self.root.join("artifacts").join(key)
    }

    /// Makes the store, if it isn't there.
    pub(crate) fn create(&self) -> Result<()> {
        for dir in ["artifacts", "tmp", "locks"] {
            fs::create_dir_all(self.root.join(dir))?;
        }
        let marker = self.root.join("format");
        if !marker.exists() {
            fs::write(self.root.join(".gitignore"), "*\n")?;
            fs::write(marker, format!("{FORMAT}\n"))?;
        }
        Ok(())
    }
}
