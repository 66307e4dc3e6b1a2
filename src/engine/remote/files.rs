//! Files beside artifacts that machines share who have a remote in common and no disk: what stages read, as blobs, and those of a
//! run on a cluster, which are small and change, below `v1/files` under their paths in a store.

use std::{collections::BTreeMap, ops::Range, path::Path, sync::atomic::Ordering, time::Duration};

use anyhow::{Context, Result};
use fs_err as fs;
use futures_util::{StreamExt, TryStreamExt, stream};
use object_store::{Error, ObjectStore, ObjectStoreExt, PutPayload};

use super::{Remote, blobs, push::Effort, shared::PARALLEL};
use crate::engine::store::{FileRecord, atomic};

/// How the remote marked files when they were brought, by their paths.
pub type Marks = BTreeMap<String, String>;

/// The name that is held by who brings files into a store.
const BRINGS: &str = "brings files from a remote";
/// How often it's looked whether another process has brought them.
const LOOK: Duration = Duration::from_millis(100);

/// How long it's waited before what the remote didn't do is tried again: at first, and at last; each time twice as long.
const PAUSES: (Duration, Duration) = (Duration::from_secs(5), Duration::from_secs(160));

impl Remote {
    /// Does something that others wait for, again and again for some five minutes, whatever keeps the remote from it.
    ///
    /// # Errors
    /// The last one.
    pub fn insist<T>(&self, act: impl Fn() -> Result<T>) -> Result<T> {
        let (mut pause, last) = PAUSES;
        loop {
            match act() {
                Err(error) if pause <= last => tracing::info!("{error:#}; tried again after {pause:?}"),
                result => return result,
            }
            std::thread::sleep(pause);
            pause *= 2;
        }
    }

    /// Sees to it that the remote has a file's bytes, under their digest.
    ///
    /// # Errors
    /// If it can't be read, or the remote doesn't take it.
    pub fn give(&self, from: &Path, file: &FileRecord) -> Result<()> {
        let given = self.runtime.block_on(self.shared.upload(from, file, Effort::Record));
        given.with_context(|| format!("can't send {} to {}", from.display(), self.url()))
    }

    /// Brings the bytes of files into the store by their digests, unless they're there. Of several processes one does it at a time.
    ///
    /// # Errors
    /// If they can't be fetched, or a file not be written.
    pub fn take(&self, files: &[FileRecord]) -> Result<()> {
        if files.is_empty() {
            return Ok(());
        }
        let store = &self.shared.store;
        let name = blake3::hash(BRINGS.as_bytes()).to_hex().to_string();
        let mut watch = store.watch(&name);
        let _held = loop {
            if let Some(left) = watch.look()?
                && let Some(held) = store.hold(&name, &left)?
            {
                break held;
            }
            std::thread::sleep(LOOK);
        };
        for file in files {
            let to = store.root().join(&file.path);
            fs::create_dir_all(to.parent().context("a file lies in a directory")?)?;
            let taken = self.runtime.block_on(blobs::download(&self.shared, file, &to, &|_| ()));
            taken.with_context(|| format!("can't bring {} from {}", file.path, self.url()))?;
        }
        Ok(())
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

    /// Removes a file that was sent. It's in nobody's way where it can't be removed.
    pub fn forget(&self, path: &str) {
        self.runtime.block_on(self.shared.remove_file(&self.shared.address.file(path)));
    }

    /// Bytes of a file that was sent, which aren't kept in the store.
    ///
    /// # Errors
    /// If it isn't there, or can't be fetched.
    pub fn bytes_of(&self, path: &str, range: Range<u64>) -> Result<Vec<u8>> {
        let location = self.shared.address.file(path);
        let fetch = async {
            match blobs::get(&self.shared, &location, Some(range.clone())).await {
                // A web server that sends whole files alone.
                Err(Error::NotSupported { .. }) => {
                    let whole = blobs::get(&self.shared, &location, None).await?.bytes().await?;
                    let place = |place: u64| usize::try_from(place).unwrap_or(usize::MAX).min(whole.len());
                    Ok(whole.slice(place(range.start)..place(range.end)))
                }
                found => found?.bytes().await,
            }
        };
        let bytes = self.runtime.block_on(fetch).with_context(|| format!("can't bring {path} from {}", self.url()))?;
        Ok(bytes.to_vec())
    }

    /// Brings a file into the store; gives whether the remote has it.
    ///
    /// # Errors
    /// If it can't be fetched, or the store not be written.
    pub fn bring(&self, path: &str) -> Result<bool> {
        self.runtime.block_on(self.bring_one(path))
    }

    /// Brings the files below a folder that are wanted and have changed since they were brought.
    ///
    /// # Errors
    /// As [`Self::bring`].
    pub fn bring_changed(&self, folder: &str, marks: &mut Marks, wanted: &dyn Fn(&str) -> bool) -> Result<()> {
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
        let mut found = self.runtime.block_on(list).with_context(|| format!("can't list {}", self.url()))?;
        // It answers again, if it didn't.
        self.shared.offline.store(false, Ordering::Relaxed);
        found.retain(|(path, mark)| marks.get(path) != Some(mark) && wanted(path));
        let brought = found.into_iter().map(|(path, mark)| async move {
            let is_there = self.bring_one(&path).await?;
            Ok::<_, anyhow::Error>(is_there.then_some((path, mark)))
        });
        let brought = stream::iter(brought).buffer_unordered(PARALLEL).try_collect::<Vec<_>>();
        marks.extend(self.runtime.block_on(brought)?.into_iter().flatten());
        Ok(())
    }

    async fn bring_one(&self, path: &str) -> Result<bool> {
        let text = blobs::whole(&self.shared, &self.shared.address.file(path)).await;
        let text = text.with_context(|| format!("can't bring {path} from {}", self.url()))?;
        let Some(text) = text else { return Ok(false) };
        let local = self.shared.store.root().join(path);
        fs::create_dir_all(local.parent().context("a file lies in a directory")?)?;
        atomic::write(&local, &text)?;
        Ok(true)
    }
}
