//! Files beside artifacts that machines share who have a remote in common and no disk: what stages read, as blobs, and those of a
//! run on a cluster, which are small and change, below `v1/files` under their paths in a store.

use std::{collections::BTreeMap, path::Path, sync::atomic::Ordering};

use anyhow::{Context, Result};
use fs_err as fs;
use futures_util::StreamExt;
use object_store::{Error, ObjectStore, ObjectStoreExt, PutPayload};

use super::{Remote, blobs, push::Effort};
use crate::engine::store::{FileRecord, atomic};

/// How the remote marked files when they were brought, by their paths.
pub type Marks = BTreeMap<String, String>;

impl Remote {
    /// Sees to it that the remote has a file's bytes, under their digest.
    ///
    /// # Errors
    /// If it can't be read, or the remote doesn't take it.
    pub fn give(&self, from: &Path, file: &FileRecord) -> Result<()> {
        let given = self.runtime.block_on(self.shared.upload(from, file, Effort::Record));
        given.with_context(|| format!("can't send {} to {}", from.display(), self.url()))
    }

    /// Brings a file's bytes by their digest, unless they're there.
    ///
    /// # Errors
    /// If they can't be fetched, or the file not be written.
    pub fn take(&self, file: &FileRecord, to: &Path) -> Result<()> {
        fs::create_dir_all(to.parent().context("a file lies in a directory")?)?;
        let taken = self.runtime.block_on(blobs::download(&self.shared, file, to, &|_| ()));
        taken.with_context(|| format!("can't bring {} from {}", to.display(), self.url()))
    }

    /// Sends a file of the store as it is now.
    ///
    /// # Errors
    /// If it can't be read, or the remote doesn't take it.
    pub fn send(&self, path: &str) -> Result<()> {
        let text = fs::read(self.shared.store.root().join(path))?;
        let location = self.shared.address.file(path);
        let sent = self.runtime.block_on(self.shared.objects.put(&location, PutPayload::from(text)));
        sent.map(|_| ()).with_context(|| format!("can't send {path} to {}", self.url()))
    }

    /// Brings a file into the store; gives whether the remote has it.
    ///
    /// # Errors
    /// If it can't be fetched, or the store not be written.
    pub fn bring(&self, path: &str) -> Result<bool> {
        let fetch = async {
            match self.shared.objects.get(&self.shared.address.file(path)).await {
                Ok(found) => Ok(Some(found.bytes().await?)),
                Err(Error::NotFound { .. }) => Ok(None),
                Err(error) => Err(error),
            }
        };
        let text = self.runtime.block_on(fetch).with_context(|| format!("can't bring {path} from {}", self.url()))?;
        let Some(text) = text else { return Ok(false) };
        let local = self.shared.store.root().join(path);
        fs::create_dir_all(local.parent().context("a file lies in a directory")?)?;
        atomic::write(&local, &text)?;
        Ok(true)
    }

    /// Brings the files below a folder that have changed since they were brought.
    ///
    /// # Errors
    /// As [`Self::bring`].
    pub fn bring_changed(&self, folder: &str, marks: &mut Marks) -> Result<()> {
        let location = self.shared.address.file(folder);
        let list = async {
            let mut found = Vec::new();
            let mut listed = self.shared.objects.list(Some(&location));
            while let Some(one) = listed.next().await {
                let one = one?;
                let mark = one.e_tag.unwrap_or_else(|| format!("{} {}", one.size, one.last_modified));
                let below = one.location.prefix_match(&location);
                let below = below.map(|parts| parts.map(|part| part.as_ref().to_owned()).collect::<Vec<_>>().join("/"));
                found.extend(below.map(|below| (format!("{folder}/{below}"), mark)));
            }
            Ok::<_, Error>(found)
        };
        let found = self.runtime.block_on(list).with_context(|| format!("can't list {}", self.url()))?;
        // It answers again, if it didn't.
        self.shared.offline.store(false, Ordering::Relaxed);
        for (path, mark) in found {
            if marks.get(&path) != Some(&mark) && self.bring(&path)? {
                marks.insert(path, mark);
            }
        }
        Ok(())
    }
}
