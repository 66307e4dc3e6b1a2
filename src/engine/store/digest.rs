//! Digests of input files.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

use anyhow::Result;
use fs_err as fs;
use serde_json::Value;

use super::{
    canonical_json,
    digest_table::{DigestTable, Hashed, Stamp, digest_file},
};
use crate::support::{
    arrivals,
    clock::{Clock, SystemClock},
};

/// Context of the hashes that stand for paths.
const CONTEXT: &str = "pipe 2026-11 path of a file whose digest is remembered";

/// Tells what is to be noted beside a file's digest of how it's read.
#[derive(Clone, Copy, Debug)]
pub struct Reading {
    /// How a stage with these settings reads a file that one of its fields names; nothing where that needs no note.
    pub how: fn(settings: &Value, field: &str, file: &Path) -> Option<Value>,
    /// The note, if the file that is read so needs one. It may take a look at all of the file.
    pub note: fn(how: &Value, file: &Path) -> Option<&'static str>,
}

/// Remembers digests by path and stamp, so that unchanged files needn't be read again. Paths may come out of a recipe's
/// `env()`, so hashes stand for them.
#[derive(Debug)]
pub struct DigestCache {
    table: DigestTable,
    clock: Arc<dyn Clock>,
    reading: Option<Reading>,
}

impl Default for DigestCache {
    fn default() -> Self {
        Self { table: DigestTable::default(), clock: Arc::new(SystemClock), reading: None }
    }
}

impl DigestCache {
    /// Reads the memory kept in the store at `root`; a missing or unreadable one is empty.
    pub fn open(root: &Path) -> Self {
        Self { table: DigestTable::open(root.join("digests.json")), ..Self::default() }
    }

    /// The same, with notes of how files are read.
    pub fn with_reading(self, reading: Reading) -> Self {
        Self { reading: Some(reading), ..self }
    }

    /// The same with another clock, by which a file counts as settled.
    pub fn with_clock(self, clock: Arc<dyn Clock>) -> Self {
        Self { clock, ..self }
    }

    /// One that reads files as this one does, and remembers nothing yet.
    pub(crate) fn forgetful(&self) -> Self {
        Self { table: DigestTable::default(), clock: Arc::clone(&self.clock), reading: self.reading }
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
        if let Some(digest) = self.table.get(&id, &Stamp::of(&fs::metadata(path)?)) {
            return Ok(digest.to_owned());
        }
        let known = |path: &Path| match arrivals::digest(path, &fs::metadata(path)?) {
            Some(digest) => Ok(digest),
            None => digest_file(path),
        };
        let hashed = Hashed::made(path, &*self.clock, known)?;
        self.table.learn(id, &hashed);
        Ok(hashed.digest)
    }

    /// What is noted of how a stage reads a file; nothing where it's read as ever. It's looked for in all of the file, and
    /// remembered like its digest.
    ///
    /// # Errors
    /// If the file can't be read.
    pub fn noted(&mut self, settings: &Value, field: &str, path: &Path) -> Result<String> {
        let how = self.reading.and_then(|reading| Some((reading, (reading.how)(settings, field, path)?)));
        let Some((reading, how)) = how else { return Ok(String::new()) };
        let path = &fs::canonicalize(path)?;
        // Settings may hold secrets, so a hash stands for them, too.
        let id = id(&path.join(format!("read as {}", canonical_json(&how))));
        if let Some(note) = self.table.get(&id, &Stamp::of(&fs::metadata(path)?)) {
            return Ok(note.to_owned());
        }
        let note = |path: &Path| Ok((reading.note)(&how, path).unwrap_or_default().to_owned());
        let noted = Hashed::made(path, &*self.clock, note)?;
        self.table.learn(id, &noted);
        Ok(noted.digest)
    }

    /// Writes what was learned, if anything.
    pub fn save(&mut self) {
        self.table.save();
    }
}

fn id(path: &Path) -> String {
    blake3::Hash::from_bytes(blake3::derive_key(CONTEXT, path.as_os_str().as_encoded_bytes())).to_hex().to_string()
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, SystemTime};

    use super::*;
    use crate::support::clock::ManualClock;

    /// Longer than it takes for a file to count as settled.
    const SETTLING: Duration = Duration::from_millis(2_100);

    fn is_remembered(dir: &Path, path: &Path) -> bool {
        let path = fs::canonicalize(path).unwrap();
        let stamp = Stamp::of(&fs::metadata(&path).unwrap());
        DigestCache::open(dir).table.get(&id(&path), &stamp).is_some()
    }

    /// What is learned of files `after` they were written.
    fn learned(dir: &Path, paths: &[&Path], after: Duration) -> DigestCache {
        let clock = Arc::new(ManualClock::new());
        clock.advance(after);
        let mut cache = DigestCache::open(dir).with_clock(clock);
        for path in paths {
            cache.digest(path).unwrap();
        }
        cache.save();
        cache
    }

    #[test]
    fn settled_file_is_remembered_and_a_fresh_or_backdated_one_is_not() {
        let dir = tempfile::tempdir().unwrap();
        let [old, new, backdated] = ["old", "new", "backdated"].map(|name| dir.path().join(name));
        std::fs::write(&old, "a").unwrap();
        learned(dir.path(), &[&old], SETTLING);
        std::fs::write(&new, "b").unwrap();
        std::fs::write(&backdated, "c").unwrap();
        let then = SystemTime::now() - Duration::from_secs(60);
        std::fs::File::options().write(true).open(&backdated).unwrap().set_modified(then).unwrap();
        learned(dir.path(), &[&new, &backdated], Duration::ZERO);
        assert_eq!([&old, &new, &backdated].map(|path| is_remembered(dir.path(), path)), [true, false, !cfg!(unix)]);
    }

    #[test]
    fn rewritten_file_gets_its_new_digest_even_with_its_old_date() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("data");
        std::fs::write(&path, "one").unwrap();
        let written = fs::metadata(&path).unwrap();
        let mut cache = learned(dir.path(), &[&path], SETTLING);
        assert!(is_remembered(dir.path(), &path));
        let first = cache.digest(&path).unwrap();
        // Until the system's clock, which counts in steps, distinguishes the two.
        while Stamp::of(&fs::metadata(&path).unwrap()) == Stamp::of(&written) {
            std::fs::write(&path, "two").unwrap();
            #[cfg(unix)]
            std::fs::File::options()
                .write(true)
                .open(&path)
                .unwrap()
                .set_modified(written.modified().unwrap())
                .unwrap();
        }
        assert_ne!(cache.digest(&path).unwrap(), first);
    }

    #[test]
    fn file_that_was_hashed_on_arrival_is_not_read_again() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("data");
        std::fs::write(&path, "one").unwrap();
        // No file has this digest: only who reads it finds another.
        arrivals::learn(&path, "told");
        assert_eq!(DigestCache::default().digest(&path).unwrap(), "told");
        std::fs::write(&path, "three").unwrap();
        assert_eq!(DigestCache::default().digest(&path).unwrap(), digest_file(&path).unwrap());
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
