//! Hugging Face's cache, which Python's `huggingface_hub` shares:
//!
//! ```text
//! models--ORG--NAME/blobs/DIGEST            a file's bytes; a data set's folder begins with datasets--
//! models--ORG--NAME/snapshots/COMMIT/FILE   a link to them
//! models--ORG--NAME/refs/REVISION           the commit that a branch or tag was
//! .locks/models--ORG--NAME/DIGEST.lock      held while these bytes are fetched
//! ```
//!
//! Of our own is `models--ORG--NAME/.pipe/COMMIT.json`: which files there are, so that it's known when all are here. What is
//! ModelScope's lies the same way in a folder beside that client's own.

use std::{
    io::Write,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result};
use fs_err as fs;

use super::{
    environment::{caches, home, var},
    listing::{Listed, Listing},
    reference::{Host, Reference, Snapshot},
};

/// What the cache has of one model or data set.
pub(super) struct Repository {
    pub(super) root: PathBuf,
    locks: PathBuf,
}

impl Repository {
    /// # Errors
    /// If nothing says where the cache is.
    pub(super) fn of(reference: &Reference) -> Result<Self> {
        let (variable, cache) = match reference.host {
            Host::HuggingFace => {
                let named = var("HF_HUB_CACHE").or_else(|| var("HUGGINGFACE_HUB_CACHE")).map(PathBuf::from);
                ("HF_HUB_CACHE", named.or_else(|| Some(home()?.join("hub"))))
            }
            Host::ModelScope => {
                let named = var("MODELSCOPE_CACHE").map(PathBuf::from);
                (
                    "MODELSCOPE_CACHE",
                    named.or_else(|| Some(caches()?.join("modelscope"))).map(|cache| cache.join("pipe")),
                )
            }
        };
        let cache = cache.with_context(|| format!("neither {variable} nor HOME says where it's to be kept"))?;
        let folder = format!("{}--{}", reference.kind.plural(), reference.name.replace('/', "--"));
        Ok(Self { root: cache.join(&folder), locks: cache.join(".locks").join(folder) })
    }

    /// What a revision was when it was looked up, if anything of it is here.
    pub(super) fn cached(&self, revision: &str) -> Option<Snapshot> {
        let is_commit = revision.len() == 40 && revision.chars().all(|c| c.is_ascii_hexdigit());
        let commit = match is_commit {
            true => revision.to_owned(),
            false => std::fs::read_to_string(self.root.join("refs").join(revision)).ok()?.trim().to_owned(),
        };
        let directory = self.snapshot(&commit);
        directory.is_dir().then_some(Snapshot { directory, commit })
    }

    pub(super) fn snapshot(&self, commit: &str) -> PathBuf {
        self.root.join("snapshots").join(commit)
    }

    /// Whether a file is here.
    pub(super) fn has(&self, commit: &str, file: &Listed) -> bool {
        self.snapshot(commit).join(&file.path).exists()
    }

    /// The bytes of a file, once they're all here.
    pub(super) fn blob(&self, file: &Listed) -> PathBuf {
        self.root.join("blobs").join(&file.blob)
    }

    /// Those that have arrived so far.
    pub(super) fn incomplete(&self, file: &Listed) -> PathBuf {
        self.root.join("blobs").join(format!("{}.incomplete", file.blob))
    }

    /// Waits until nobody else fetches a file; the lock ends with what is returned.
    pub(super) fn lock(&self, file: &Listed) -> Result<std::fs::File> {
        fs::create_dir_all(&self.locks)?;
        let path = self.locks.join(format!("{}.lock", file.blob));
        let lock = std::fs::File::options().create(true).truncate(false).write(true).open(&path);
        let lock = lock.with_context(|| format!("can't open {}", path.display()))?;
        lock.lock().with_context(|| format!("can't lock {}", path.display()))?;
        Ok(lock)
    }

    /// Gives a file that is here its name.
    pub(super) fn link(&self, commit: &str, file: &Listed) -> Result<()> {
        let place = self.snapshot(commit).join(&file.path);
        fs::create_dir_all(place.parent().unwrap_or(&self.root))?;
        let up = file.path.split('/').map(|_| "../").collect::<String>();
        // Snapshots are two folders deep.
        let target = PathBuf::from(format!("{up}../blobs/{}", file.blob));
        match symlink(&target, &place) {
            Err(_) if place.exists() => Ok(()),
            // Where there are no links, Python's client has copies, too.
            Err(_) => fs::copy(self.blob(file), &place).map(drop).map_err(Into::into),
            Ok(()) => Ok(()),
        }
    }

    /// What is known of a commit's files.
    pub(super) fn listing(&self, commit: &str) -> Option<Listing> {
        let text = std::fs::read(self.own(commit)).ok()?;
        serde_json::from_slice(&text).ok().filter(|listing: &Listing| listing.commit == commit)
    }

    /// Writes down what a revision is, and what files it has.
    pub(super) fn remember(&self, revision: &str, listing: &Listing) -> Result<()> {
        let commit = &listing.commit;
        fs::create_dir_all(self.root.join("blobs"))?;
        fs::create_dir_all(self.snapshot(commit))?;
        write(&self.own(commit), &serde_json::to_vec(listing)?)?;
        if revision == commit { Ok(()) } else { write(&self.root.join("refs").join(revision), commit.as_bytes()) }
    }

    fn own(&self, commit: &str) -> PathBuf {
        self.root.join(".pipe").join(format!("{commit}.json"))
    }
}

/// Writes a small file so that it's there as a whole or not at all.
fn write(path: &Path, bytes: &[u8]) -> Result<()> {
    let folder = path.parent().context("a file without a folder")?;
    fs::create_dir_all(folder)?;
    let mut file = tempfile::NamedTempFile::new_in(folder)?;
    file.write_all(bytes)?;
    file.persist(path).with_context(|| format!("can't write {}", path.display()))?;
    Ok(())
}

#[cfg(unix)]
fn symlink(target: &Path, place: &Path) -> std::io::Result<()> {
    std::os::unix::fs::symlink(target, place)
}

#[cfg(not(unix))]
fn symlink(_target: &Path, _place: &Path) -> std::io::Result<()> {
    Err(std::io::ErrorKind::Unsupported.into())
}
