//! What computations that were stopped resume from, for machines that share no disk: the last state of each, below
//! `v1/files/states/KEY`. Files lie there under their digests, and the record comes last, so that it vouches for what is there.

use std::path::Path;

use anyhow::{Context, Result};
use fs_err as fs;
use futures_util::TryStreamExt;
use object_store::{Error, ObjectStore, ObjectStoreExt, PutPayload, path::Path as Location};

use super::{Remote, blobs, shared::Shared};
use crate::engine::store::{FileRecord, PackedState, State};

/// The name of the record, there and here.
const RECORD: &str = State::RECORD;

impl Remote {
    /// Sends a state, unless it was sent; what was sent before of the same computation is removed.
    ///
    /// # Errors
    /// If the state can't be read, also because it has just been replaced, or the remote doesn't take it.
    pub fn send_state(&self, key: &str, state: &State) -> Result<()> {
        let Some(PackedState { record, files }) = state.packed()? else { return Ok(()) };
        // What is open stays what it is, also when the next checkpoint takes its place meanwhile.
        let open = |file: &FileRecord| fs::File::open(state.dir().join(&file.path));
        let mut sources: Vec<fs::File> = files.iter().map(open).collect::<std::io::Result<_>>()?;
        let shared = &*self.shared;
        let place = |name: &str| shared.address.file(&format!("{}/{name}", folder(key)));
        let send = async {
            if blobs::whole(shared, &place(RECORD)).await?.is_some_and(|sent| sent == record) {
                return Ok(());
            }
            for (file, source) in files.iter().zip(&mut sources) {
                let location = place(&file.digest);
                let is_there = shared.objects.head(&location).await.is_ok_and(|there| there.size == file.bytes);
                if !is_there {
                    shared.send_file(&location, source, file).await?;
                }
            }
            shared.objects.put(&place(RECORD), PutPayload::from(record)).await?;
            let is_kept = |location: &Location| {
                let name = location.filename().unwrap_or_default();
                name == RECORD || files.iter().any(|file| file.digest == name)
            };
            shared.remove_files(&folder(key), &|location| !is_kept(location)).await;
            anyhow::Ok(())
        };
        self.runtime.block_on(send).with_context(|| format!("can't send a state to {}", self.url()))
    }

    /// Brings the state of a computation into a folder, if one was sent; tells whether.
    ///
    /// # Errors
    /// If it isn't there as a whole or can't be fetched, or the folder not be written.
    pub fn bring_state(&self, key: &str, to: &Path) -> Result<bool> {
        let shared = &*self.shared;
        let place = |name: &str| shared.address.file(&format!("{}/{name}", folder(key)));
        let bring = async {
            let Some(record) = blobs::whole(shared, &place(RECORD)).await? else { return Ok(false) };
            fs::create_dir_all(to)?;
            for file in State::files_of(&record, key)? {
                // Its path is a name in the folder, or else it's no state's.
                let name = Path::new(&file.path).file_name().context("a file of a state has no name")?;
                let to = to.join(name);
                blobs::download_from(shared, &place(&file.digest), &file, &to, &|_| ()).await?;
            }
            fs::write(to.join(RECORD), record)?;
            anyhow::Ok(true)
        };
        self.runtime.block_on(bring).with_context(|| format!("can't bring a state from {}", self.url()))
    }

    /// Removes what was sent of a computation. It's in nobody's way where it can't be removed.
    pub fn forget_state(&self, key: &str) {
        self.runtime.block_on(self.shared.remove_files(&folder(key), &|_| true));
    }
}

fn folder(key: &str) -> String {
    format!("states/{key}")
}

impl Shared {
    /// Removes files below a folder, as far as the remote lets them be removed.
    async fn remove_files(&self, folder: &str, unwanted: &dyn Fn(&Location) -> bool) {
        let location = self.address.file(folder);
        let listed: Result<Vec<_>, Error> = self.objects.list(Some(&location)).try_collect().await;
        for location in listed.unwrap_or_default().into_iter().map(|found| found.location).filter(unwanted) {
            self.remove_file(&location).await;
        }
    }

    /// Removes a file, if the remote lets it be removed.
    pub(super) async fn remove_file(&self, location: &Location) {
        if let Err(error) = self.objects.delete(location).await {
            tracing::info!("can't remove {location}: {error}");
        }
    }
}
