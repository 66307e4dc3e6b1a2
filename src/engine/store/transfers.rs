//! The folder `remote/` of a store: what is remembered of remotes, and files on their way from them.
//!
//! ```text
//! remote/PLACE/        what was seen in one remote: records by key, and which files are sound
//! remote/parts/KEY/    an artifact's files, by digest, until all are there
//! ```

use std::{
    io::Write,
    path::{Path, PathBuf},
};

use super::{Store, atomic, check::is_digest, gc::is_folder};

impl Store {
    /// Where the files of an artifact gather that come from a remote, until all are there.
    pub(crate) fn parts(&self, key: &str) -> PathBuf {
        self.root.join("remote").join("parts").join(key)
    }

    /// Where it's remembered what was seen in a remote.
    pub(crate) fn memory_of(&self, remote: &str) -> PathBuf {
        self.root.join("remote").join(remote)
    }

    /// Writes a file of such a memory. That it can't be written is no error: the remote is asked again.
    pub(crate) fn remember(&self, path: &Path, bytes: &[u8]) {
        let written = || -> Option<()> {
            let dir = path.parent()?;
            self.create().ok()?;
            std::fs::create_dir_all(dir).ok()?;
            let mut file = atomic::create(dir).ok()?;
            file.write_all(bytes).ok()?;
            file.persist(path).ok()?;
            Some(())
        };
        let _ = written();
    }

    /// What transfers have left that were cut off, by key: folders of parts. Temporary files of memories, left by processes
    /// that were killed while they wrote, are no key's.
    pub(super) fn left_by_transfers(&self) -> Vec<(Option<String>, PathBuf)> {
        let remote = self.root.join("remote");
        if !is_folder(&remote) {
            return Vec::new();
        }
        let parts = Some(remote.join("parts")).filter(|parts| is_folder(parts));
        let parts = parts.iter().flat_map(|parts| entries(parts));
        let parts = parts.filter(|(name, path)| is_digest(name) && path.is_dir());
        let places = entries(&remote).filter(|(name, path)| is_name(name, 16) && path.is_dir());
        let temporary = places.flat_map(|(_, place)| entries(&place));
        let temporary = temporary.filter(|(name, path)| name.starts_with(".new-") && path.is_file());
        parts.map(|(key, path)| (Some(key), path)).chain(temporary.map(|(_, path)| (None, path))).collect()
    }
}

/// The entries of a folder that are there themselves rather than by a link.
fn entries(dir: &Path) -> impl Iterator<Item = (String, PathBuf)> + use<> {
    let entries = std::fs::read_dir(dir).into_iter().flatten().flatten();
    let own = entries.filter(|entry| entry.file_type().is_ok_and(|kind| !kind.is_symlink()));
    own.filter_map(|entry| Some((entry.file_name().into_string().ok()?, entry.path())))
}

fn is_name(name: &str, length: usize) -> bool {
    name.len() == length && name.bytes().all(|byte| byte.is_ascii_hexdigit())
}
