//! A place to compute an artifact in, and the step that makes it one.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use fs_err as fs;

use super::{
    Artifact, Manifest, Metrics, Provenance,
    artifact::{FileRecord, RECORD},
    digest::digest_file,
    lock::Lock,
};

/// A claimed key with a directory to write to. Nothing of it is visible to others until [`Slot::commit`]; what is
/// dropped without that is removed.
pub struct Slot {
    key: String,
    manifest: Manifest,
    dir: PathBuf,
    target: PathBuf,
    damage: Option<anyhow::Error>,
    committed: bool,
    _lock: Lock,
}

impl Slot {
    pub(super) fn new(
        manifest: Manifest,
        dir: PathBuf,
        target: PathBuf,
        damage: Option<anyhow::Error>,
        lock: Lock,
    ) -> Self {
        Self { key: manifest.key(), manifest, dir, target, damage, committed: false, _lock: lock }
    }

    /// The claimed key.
    pub fn key(&self) -> &str {
        &self.key
    }

    /// Where the stage writes its files.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// Where the stage keeps what it takes to go on after a crash. Unlike the slot it outlives a failure; it's removed
    /// with [`Self::commit`], and by a claim with `force`.
    pub fn state(&self) -> PathBuf {
        state_dir(&self.dir)
    }

    /// What is wrong with the artifact that this one is to replace, if it's damaged.
    pub fn damage(&self) -> Option<&anyhow::Error> {
        self.damage.as_ref()
    }

    /// Makes the slot an artifact: digests and syncs the files, writes the record, and renames the directory to where
    /// readers look. What lies there already (after `--force`, or damaged) is replaced.
    ///
    /// # Errors
    /// If a file can't be read, synced or renamed; nothing is visible then.
    pub fn commit(mut self, metrics: Metrics, provenance: Provenance) -> Result<Artifact> {
        let files = self.digest_and_sync()?;
        let artifact = Artifact {
            key: self.key.clone(),
            manifest: self.manifest.clone(),
            digest: output_digest(&files),
            files,
            metrics,
            provenance,
            path: self.target.clone(),
        };
        let record = self.dir.join(RECORD);
        fs::write(&record, serde_json::to_vec_pretty(&artifact)?)?;
        fs::File::open(&record)?.sync_all()?;
        sync_dir(&self.dir)?;
        let parent = self.target.parent().context("an artifact's directory has a parent")?;
        if self.target.exists() {
            let old = self.dir.with_extension("old");
            remove_dir(&old)?;
            fs::rename(&self.target, &old)?;
            fs::rename(&self.dir, &self.target)?;
            fs::remove_dir_all(&old)?;
        } else {
            fs::rename(&self.dir, &self.target)?;
        }
        sync_dir(parent)?;
        self.committed = true;
        remove_dir(&self.state())?;
        Ok(artifact)
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
                files.push(FileRecord { path: parts.join("/"), bytes, digest: digest_file(entry.path())? });
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

/// Beside the slot in `tmp/`.
pub(super) fn state_dir(slot: &Path) -> PathBuf {
    slot.with_extension("state")
}

/// Removes a directory, if it's there.
pub(super) fn remove_dir(dir: &Path) -> Result<()> {
    if dir.exists() {
        fs::remove_dir_all(dir)?;
    }
    Ok(())
}

/// BLAKE3 over the files' paths and digests, each ended by a byte that can't stand in it.
pub(super) fn output_digest(files: &[FileRecord]) -> String {
    let mut hasher = blake3::Hasher::new();
    for file in files {
        hasher.update(file.path.as_bytes()).update(&[0]).update(file.digest.as_bytes()).update(&[0]);
    }
    hasher.finalize().to_hex().to_string()
}

fn sync_dir(dir: &Path) -> Result<()> {
    // Directories can't be opened for syncing everywhere; where they can, a rename survives a power cut.
    #[cfg(unix)]
    fs::File::open(dir)?.sync_all()?;
    #[cfg(not(unix))]
    let _ = dir;
    Ok(())
}
