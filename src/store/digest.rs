//! Digests of files, and a memory of them that never trusts a file which may have changed.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    time::{SystemTime, UNIX_EPOCH},
};

use anyhow::{Context, Result};
use fs_err as fs;
use serde::{Deserialize, Serialize};

/// A file changed within this time before it was hashed may change again without its time stamp telling.
const SETTLED: f64 = 2.0;

/// BLAKE3 of a file's bytes, in hexadecimal.
///
/// # Errors
/// If it can't be read.
pub fn digest_file(path: &Path) -> Result<String> {
    let mut hasher = blake3::Hasher::new();
    hasher.update_reader(fs::File::open(path)?).with_context(|| format!("failed to read {}", path.display()))?;
    Ok(hasher.finalize().to_hex().to_string())
}

/// Context of the hashes that stand for paths.
const CONTEXT: &str = "pipe 2026-11 path of a file whose digest is remembered";

/// Remembers digests by path, size, time stamp and inode, so that unchanged files needn't be read again. Paths may come
/// out of a recipe's `env()`, so hashes stand for them.
#[derive(Debug, Default)]
pub struct DigestCache {
    path: Option<PathBuf>,
    known: BTreeMap<String, Known>,
    changed: bool,
}

#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
struct Known {
    bytes: u64,
    modified: f64,
    inode: u64,
    digest: String,
}

impl DigestCache {
    /// Reads the memory kept in the store at `root`; a missing or unreadable one is empty.
    pub fn open(root: &Path) -> Self {
        let path = root.join("digests.json");
        let known = std::fs::read(&path).ok().and_then(|text| serde_json::from_slice(&text).ok()).unwrap_or_default();
        Self { path: Some(path), known, changed: false }
    }

    /// Digest of some files of a directory: of their names and bytes, whatever their order and wherever it lies.
    ///
    /// # Errors
    /// If something can't be read.
    pub fn named(&mut self, files: &[PathBuf]) -> Result<String> {
        let name = |path: &PathBuf| path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let mut files: Vec<_> = files.iter().map(|path| (name(path), path)).collect();
        files.sort();
        let mut hasher = blake3::Hasher::new();
        for (name, path) in files {
            hasher.update(name.as_bytes()).update(&[0]).update(self.digest(path)?.as_bytes()).update(&[0]);
        }
        Ok(hasher.finalize().to_hex().to_string())
    }

    /// Digest of a file.
    ///
    /// # Errors
    /// If it can't be read.
    pub fn digest(&mut self, path: &Path) -> Result<String> {
        let path = &fs::canonicalize(path)?;
        let id = id(path);
        let before = stamp(path)?;
        if let Some(known) = self.known.get(&id)
            && (known.bytes, known.modified, known.inode) == (before.bytes, before.modified, before.inode)
        {
            return Ok(known.digest.clone());
        }
        let began = seconds(SystemTime::now());
        let digest = digest_file(path)?;
        let after = stamp(path)?;
        if after == before && after.modified + SETTLED < began {
            self.known.insert(id, Known { digest: digest.clone(), ..after });
            self.changed = true;
        } else {
            self.changed |= self.known.remove(&id).is_some();
        }
        Ok(digest)
    }

    /// Writes what was learned, if anything. A store that can't be written to is no error here: the digests are merely
    /// computed again next time.
    pub fn save(&mut self) {
        let Some(path) = self.path.as_ref().filter(|_| self.changed) else { return };
        let written = || -> Option<()> {
            let dir = path.parent()?;
            std::fs::create_dir_all(dir).ok()?;
            let mut file = tempfile::NamedTempFile::new_in(dir).ok()?;
            serde_json::to_writer(&mut file, &self.known).ok()?;
            file.persist(path).ok()?;
            Some(())
        };
        if written().is_some() {
            self.changed = false;
        }
    }
}

fn id(path: &Path) -> String {
    blake3::Hash::from_bytes(blake3::derive_key(CONTEXT, path.as_os_str().as_encoded_bytes())).to_hex().to_string()
}

fn stamp(path: &Path) -> Result<Known> {
    let metadata = fs::metadata(path)?;
    #[cfg(unix)]
    let inode = std::os::unix::fs::MetadataExt::ino(&metadata);
    #[cfg(not(unix))]
    let inode = 0;
    Ok(Known { bytes: metadata.len(), modified: seconds(metadata.modified()?), inode, digest: String::new() })
}

fn seconds(time: SystemTime) -> f64 {
    time.duration_since(UNIX_EPOCH).map_or(0.0, |since| since.as_secs_f64())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn age(path: &Path, seconds: u64) {
        let file = std::fs::File::options().write(true).open(path).unwrap();
        file.set_modified(SystemTime::now() - std::time::Duration::from_secs(seconds)).unwrap();
    }

    #[test]
    fn settled_file_is_remembered_and_a_fresh_one_is_not() {
        let dir = tempfile::tempdir().unwrap();
        let (old, new) = (dir.path().join("old"), dir.path().join("new"));
        std::fs::write(&old, "a").unwrap();
        std::fs::write(&new, "b").unwrap();
        age(&old, 60);
        let mut cache = DigestCache::open(dir.path());
        cache.digest(&old).unwrap();
        cache.digest(&new).unwrap();
        cache.save();
        let known: Vec<_> = DigestCache::open(dir.path()).known.into_keys().collect();
        assert_eq!(known, [id(&fs::canonicalize(&old).unwrap())]);
    }

    #[test]
    fn rewritten_file_gets_its_new_digest() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("data");
        std::fs::write(&path, "one").unwrap();
        age(&path, 60);
        let mut cache = DigestCache::open(dir.path());
        let first = cache.digest(&path).unwrap();
        std::fs::write(&path, "two").unwrap();
        age(&path, 30);
        assert_ne!(cache.digest(&path).unwrap(), first);
    }

    #[test]
    fn digest_of_named_files_depends_on_names_and_bytes() {
        let dir = tempfile::tempdir().unwrap();
        let inner = dir.path().join("checkpoint");
        std::fs::create_dir(&inner).unwrap();
        std::fs::write(inner.join("a"), "1").unwrap();
        let mut cache = DigestCache::default();
        let first = cache.named(&[inner.join("a")]).unwrap();
        std::fs::rename(inner.join("a"), inner.join("b")).unwrap();
        let renamed = cache.named(&[inner.join("b")]).unwrap();
        std::fs::rename(&inner, dir.path().join("elsewhere")).unwrap();
        let file = dir.path().join("elsewhere/b");
        assert_eq!(renamed, cache.named(std::slice::from_ref(&file)).unwrap());
        std::fs::write(&file, "2").unwrap();
        assert_ne!(first, renamed);
        assert_ne!(renamed, cache.named(&[file]).unwrap());
    }
}
