//! A file on its way: what has arrived is kept if the rest doesn't, and hashed as it comes, for the hub's digest and for ours
//! at the same time.

use std::{
    io::{Read, Seek, Write},
    path::{Path, PathBuf},
};

use anyhow::{Result, bail};
use data_encoding::HEXLOWER;
use fs_err::{self as fs, File};
use ring::digest::{Context, SHA1_FOR_LEGACY_USE_ONLY, SHA256};

use super::listing::Listed;
use crate::support::{Hinted, arrivals};

/// A file that is being fetched.
pub(super) struct Arriving<'a> {
    listed: &'a Listed,
    path: PathBuf,
    file: File,
    /// How many bytes have arrived.
    pub(super) length: u64,
    theirs: Context,
    ours: blake3::Hasher,
}

impl<'a> Arriving<'a> {
    /// Goes on with what has arrived before.
    pub(super) fn open(listed: &'a Listed, path: PathBuf) -> Result<Self> {
        let file = fs::OpenOptions::new().create(true).truncate(false).read(true).write(true).open(&path)?;
        let mut arriving = Self { listed, path, file, length: 0, theirs: theirs(listed), ours: blake3::Hasher::new() };
        let mut buffer = vec![0; 1 << 20];
        loop {
            let read = arriving.file.read(&mut buffer)?;
            if read == 0 {
                break;
            }
            arriving.count(&buffer[..read]);
        }
        if arriving.length > listed.bytes {
            arriving.restart()?;
        }
        Ok(arriving)
    }

    pub(super) fn is_complete(&self) -> bool {
        self.length == self.listed.bytes
    }

    /// Forgets what has arrived.
    pub(super) fn restart(&mut self) -> Result<()> {
        self.file.set_len(0)?;
        self.file.rewind()?;
        (self.length, self.theirs, self.ours) = (0, theirs(self.listed), blake3::Hasher::new());
        Ok(())
    }

    /// Keeps what comes next.
    pub(super) fn take(&mut self, bytes: &[u8]) -> Result<()> {
        let room = self.listed.bytes - self.length;
        if bytes.len() as u64 > room {
            self.restart()?;
            bail!("more of {} came than the hub said there is", self.listed.path);
        }
        self.file.write_all(bytes)?;
        self.count(bytes);
        Ok(())
    }

    fn count(&mut self, bytes: &[u8]) {
        self.length += bytes.len() as u64;
        self.theirs.update(bytes);
        self.ours.update(bytes);
    }

    /// Puts the file where it belongs, if it's what the hub said it is.
    pub(super) fn finish(self, place: &Path) -> Result<()> {
        let Self { listed, path, file, theirs, ours, .. } = self;
        let found = HEXLOWER.encode(theirs.finish().as_ref());
        if found != listed.blob {
            drop(file);
            fs::remove_file(&path)?;
            let message =
                format!("{} didn't arrive as it should be: its digest is {found} and not {}", listed.path, listed.blob);
            bail!(Hinted::with(message, "run it again; if it's the same then, the mirror or a proxy changes files"));
        }
        file.sync_data()?;
        drop(file);
        fs::rename(&path, place)?;
        arrivals::learn(place, ours.finalize().to_hex().as_str());
        Ok(())
    }
}

/// What the hub's digest of a file begins with.
fn theirs(listed: &Listed) -> Context {
    if listed.is_large() {
        return Context::new(&SHA256);
    }
    // Git hashes a file behind its length.
    let mut context = Context::new(&SHA1_FOR_LEGACY_USE_ONLY);
    context.update(format!("blob {}\0", listed.bytes).as_bytes());
    context
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `hello` and a newline; Git's digest of it is what `git hash-object` gives, the other what `sha256sum` does.
    const BYTES: &[u8] = b"hello\n";
    const GIT: &str = "ce013625030ba8dba906f756967f9e9ca394464a";
    const SHA256: &str = "5891b5b522d5df086d0ff0b110fbd9d21bb4fc7163af34d08286a2e846f6be03";

    fn listed(blob: &str) -> Listed {
        Listed { path: "file".to_owned(), bytes: BYTES.len() as u64, blob: blob.to_owned() }
    }

    /// A file whose bytes arrive in two goes, of which the first breaks off.
    fn arrived(listed: &Listed, folder: &Path) -> Result<PathBuf> {
        let (incomplete, place) = (folder.join("incomplete"), folder.join("place"));
        Arriving::open(listed, incomplete.clone())?.take(&BYTES[..2])?;
        let mut arriving = Arriving::open(listed, incomplete)?;
        assert_eq!((arriving.length, arriving.is_complete()), (2, false));
        arriving.take(&BYTES[2..])?;
        assert!(arriving.is_complete());
        arriving.finish(&place)?;
        Ok(place)
    }

    #[test]
    fn both_digests_are_known_when_a_file_has_arrived() {
        for digest in [GIT, SHA256] {
            let folder = tempfile::tempdir().unwrap();
            let place = arrived(&listed(digest), folder.path()).unwrap();
            assert_eq!(fs::read(&place).unwrap(), BYTES);
            let place = place.canonicalize().unwrap();
            let known = arrivals::digest(&place, &place.metadata().unwrap());
            assert_eq!(known.as_deref(), Some(blake3::hash(BYTES).to_hex().as_str()));
        }
    }

    #[test]
    fn other_bytes_are_not_kept() {
        let folder = tempfile::tempdir().unwrap();
        let error = arrived(&listed(&SHA256.replace('5', "6")), folder.path()).unwrap_err();
        assert!(error.to_string().contains(&format!("its digest is {SHA256}")), "{error}");
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
    }

    #[test]
    fn more_than_there_should_be_starts_anew() {
        let folder = tempfile::tempdir().unwrap();
        let (listed, incomplete) = (listed(GIT), folder.path().join("incomplete"));
        fs::write(&incomplete, [BYTES, b"more"].concat()).unwrap();
        let mut arriving = Arriving::open(&listed, incomplete).unwrap();
        assert_eq!(arriving.length, 0);
        arriving.take(&BYTES[..4]).unwrap();
        assert!(arriving.take(BYTES).is_err());
        assert_eq!(arriving.length, 0);
    }
}
