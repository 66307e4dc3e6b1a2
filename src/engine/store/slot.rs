//! A place to compute an artifact in, and the step that makes it one.

use std::{
    fmt,
    path::{Path, PathBuf},
    sync::atomic::AtomicBool,
};

use anyhow::{Context, Result, ensure};
use fs_err as fs;

use super::{
    Artifact, Manifest, Metrics, Provenance, State, Store,
    artifact::{FileRecord, RECORD, output_digest},
    atomic::sync_dir,
    is_full,
    lease::Lease,
    workspace::{Workspace, clear_directory, remove},
};

/// A claimed key with a directory to write to. Nothing of it is visible to others until [`Slot::commit`]; what is
/// dropped without that is removed.
pub struct Slot {
    store: Store,
    key: String,
    manifest: Manifest,
    workspace: Workspace,
    dir: PathBuf,
    damage: Option<anyhow::Error>,
    committed: bool,
    lease: Lease,
}

/// The lease was taken over, since its holder showed no life: it was suspended, or its machine didn't answer.
#[derive(Debug)]
pub struct Lost;

impl fmt::Display for Lost {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("another process has taken this stage over, since this one was unresponsive for too long")
    }
}

impl std::error::Error for Lost {}

impl Slot {
    pub(super) fn new(
        store: Store,
        manifest: Manifest,
        workspace: Workspace,
        damage: Option<anyhow::Error>,
        lease: Lease,
    ) -> Self {
        let (key, dir) = (manifest.key(), workspace.slot());
        Self { store, key, manifest, workspace, dir, damage, committed: false, lease }
    }

    /// The claimed key.
    pub fn key(&self) -> &str {
        &self.key
    }

    /// Where the stage writes its files.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// Where the stage keeps its state to resume from after a crash. Unlike the slot it outlives a failure; it's removed
    /// with [`Self::commit`], and by a claim with `force`. The next claim of the key finds it, under another name.
    pub fn state(&self) -> State {
        State::new(self.workspace.state(), &self.key)
    }

    /// Empties the slot, for what is computed anew.
    ///
    /// # Errors
    /// The file system's.
    pub fn clear(&self) -> Result<()> {
        clear_directory(&self.dir)
    }

    /// What is wrong with the artifact that this one is to replace, if it's damaged.
    pub fn damage(&self) -> Option<&anyhow::Error> {
        self.damage.as_ref()
    }

    /// Whether another process has taken the key over. What it computes then is of no more use here.
    pub fn is_lost(&self) -> bool {
        !self.lease.is_held().unwrap_or(true)
    }

    /// Is set within seconds after [`Self::is_lost`] has become true, without being asked.
    pub fn lost(&self) -> &AtomicBool {
        self.lease.lost()
    }

    /// Makes the slot an artifact: digests and syncs the files, writes the record, and renames the directory to where
    /// readers look. What lies there already (after `--force`, or damaged) is replaced.
    ///
    /// # Errors
    /// [`Lost`] if another process has taken the key over; if a file can't be read, synced or renamed. Nothing is visible
    /// then.
    pub fn commit(self, metrics: Metrics, provenance: Provenance) -> Result<Artifact> {
        let files = self.digest_and_sync().map_err(|error| self.lost_or(error))?;
        self.finish(files, metrics, provenance)
    }

    /// As [`Self::commit`], of what was computed elsewhere: the slot has to hold what its record says.
    ///
    /// # Errors
    /// As [`Self::commit`], and if the files are others, or hold other bytes.
    pub fn commit_as(self, record: &Artifact) -> Result<Artifact> {
        let files = self.digest_and_sync().map_err(|error| self.lost_or(error))?;
        ensure!(
            self.key == record.key && output_digest(&files) == record.digest,
            "the files that came aren't those of the record"
        );
        self.finish(files, record.metrics.clone(), record.provenance.clone())
    }

    fn finish(mut self, files: Vec<FileRecord>, metrics: Metrics, provenance: Provenance) -> Result<Artifact> {
        let target = self.store.artifact_dir(&self.key);
        let artifact = Artifact {
            key: self.key.clone(),
            manifest: self.manifest.clone(),
            digest: output_digest(&files),
            files,
            metrics,
            provenance,
            path: target.clone(),
        };
        let written = self.write_record(&artifact).or_else(|error| {
            // Everything is there but this, so what it could be resumed from is of no more use.
            if !is_full(&error) || self.is_lost() {
                return Err(error);
            }
            self.workspace.remove_state()?;
            self.write_record(&artifact)
        });
        written.map_err(|error| self.lost_or(error))?;
        self.place(&target).map_err(|error| self.store.explain(error))?;
        self.committed = true;
        sync_dir(target.parent().context("an artifact's directory has a parent")?)?;
        // What can't be removed is left to `pipe gc`.
        let _ = remove(&self.workspace.old());
        let _ = self.workspace.remove_state();
        Ok(artifact)
    }

    fn write_record(&self, artifact: &Artifact) -> Result<()> {
        let record = self.dir.join(RECORD);
        fs::write(&record, artifact.text()?)?;
        fs::File::open(&record)?.sync_all()?;
        sync_dir(&self.dir)
    }

    /// Renames the slot, if the lease is still this process's. Since leases change hands under the same lock, nobody who
    /// lost one gets past it.
    fn place(&self, target: &Path) -> Result<()> {
        let _guard = self.lease.guard()?;
        if !self.lease.is_held()? {
            return Err(Lost.into());
        }
        let old = self.workspace.old();
        let replaces = target.exists();
        if replaces {
            fs::rename(target, &old)?;
        }
        if let Err(error) = fs::rename(&self.dir, target) {
            if replaces {
                fs::rename(&old, target)?;
            }
            return Err(error.into());
        }
        Ok(())
    }

    /// What went wrong; if the lease was lost, that's why.
    fn lost_or(&self, error: anyhow::Error) -> anyhow::Error {
        if self.is_lost() { Lost.into() } else { self.store.explain(error) }
    }

    fn digest_and_sync(&self) -> Result<Vec<FileRecord>> {
        let mut files = Vec::new();
        for entry in walkdir::WalkDir::new(&self.dir).sort_by_file_name() {
            let entry = entry?;
            if entry.file_type().is_dir() {
                sync_dir(entry.path())?;
            } else if entry.file_type().is_file() {
                let relative = entry.path().strip_prefix(&self.dir)?;
                let parts: Vec<_> = relative.components().map(|part| part.as_os_str().to_string_lossy()).collect();
                let bytes = entry.metadata()?.len();
                fs::File::open(entry.path())?.sync_all()?;
                let digest = self.store.integrity.learn(entry.path())?;
                files.push(FileRecord { path: parts.join("/"), bytes, digest });
            }
        }
        files.sort_by(|a, b| a.path.cmp(&b.path));
        Ok(files)
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        if !self.committed {
            // A failure here leaves a directory under tmp/ that the next claim of the key removes.
            let _ = std::fs::remove_dir_all(&self.dir);
        }
    }
}
