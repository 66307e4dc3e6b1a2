//! Pushing: files first, those that aren't there, and then the record, so that who finds a record finds its files.

use std::{
    io::Read,
    path::Path,
    sync::{Arc, atomic::Ordering},
};

use anyhow::{Context, Result, ensure};
use fs_err as fs;
use futures_util::{StreamExt, TryStreamExt, stream};
use object_store::{Error, MultipartUpload, ObjectStoreExt, PutPayload, path::Path as Location};

use super::{
    blobs::CHUNK,
    decode, encode,
    shared::{PARALLEL, Shared},
};
use crate::engine::store::{Artifact, FileRecord};

const UNREADABLE: &str = "failed to read a file of the store";

/// Pushes an artifact, unless it's there; `computed` replaces the record that is. Failures are reported, not returned.
pub(super) async fn push(shared: Arc<Shared>, artifact: Artifact, computed: bool) {
    if shared.offline.load(Ordering::Relaxed) || shared.refuses.load(Ordering::Relaxed) {
        shared.unpushed.fetch_add(1, Ordering::Relaxed);
        return;
    }
    match shared.push(&artifact, computed).await {
        Ok(true) => drop(shared.pushed.fetch_add(1, Ordering::Relaxed)),
        Ok(false) => {}
        Err(error) => {
            shared.unpushed.fetch_add(1, Ordering::Relaxed);
            match error.downcast_ref::<Error>() {
                Some(error) => shared.refused(error),
                None => {
                    let key = &artifact.key[..12];
                    (shared.report)(&format!("warning: {key} was not pushed to the remote: {error:#}"));
                }
            }
        }
    }
}

impl Shared {
    /// Whether there was something to push.
    async fn push(&self, artifact: &Artifact, computed: bool) -> Result<bool> {
        let key = &artifact.key;
        if !computed
            && !self.is_bad(key)
            && let Some(text) = self.get_record(key).await?
            && decode(&text, key).is_ok()
        {
            self.cache.write(key, &text);
            return Ok(false);
        }
        let uploads = artifact.blobs().into_iter().cloned().map(|file| async move {
            let _permit = self.gate.acquire().await;
            self.upload(&artifact.file(&file.path), &file).await
        });
        stream::iter(uploads).buffer_unordered(PARALLEL).try_collect::<Vec<()>>().await?;
        let text = encode(artifact)?;
        self.objects.put(&self.address.record(key), PutPayload::from(text.clone())).await?;
        self.cache.write(key, &text);
        Ok(true)
    }

    /// Uploads a file, unless it's there and not known to be damaged.
    async fn upload(&self, path: &Path, file: &FileRecord) -> Result<()> {
        let location = self.address.blob(&file.digest);
        if !self.is_bad(&file.digest) {
            match self.objects.head(&location).await {
                Ok(found) if found.size == file.bytes => {
                    tracing::debug!(file = file.path, "the remote has it");
                    return Ok(());
                }
                Ok(_) | Err(Error::NotFound { .. }) => {}
                Err(error) => return Err(error.into()),
            }
        }
        tracing::debug!(file = file.path, bytes = file.bytes, "uploading");
        let mut source = fs::File::open(path)?;
        if file.bytes > CHUNK {
            return self.upload_parts(&location, &mut source, file).await;
        }
        let bytes = chunk(&mut source)?;
        check(blake3::hash(&bytes), file)?;
        self.objects.put(&location, bytes.into()).await?;
        Ok(())
    }

    /// Uploads a large file in parts. Nothing of it is there before the last one. A web server takes no parts, so that it
    /// has to lie in memory as a whole.
    async fn upload_parts(&self, location: &Location, source: &mut fs::File, file: &FileRecord) -> Result<()> {
        let mut upload = match self.objects.put_multipart(location).await {
            Err(Error::NotImplemented { .. }) => {
                let mut bytes = Vec::new();
                source.read_to_end(&mut bytes).context(UNREADABLE)?;
                check(blake3::hash(&bytes), file)?;
                self.objects.put(location, bytes.into()).await?;
                return Ok(());
            }
            upload => upload?,
        };
        if let Err(error) = send(&mut *upload, source, file).await {
            // What can't be taken back is an unfinished upload, which the remote's own rules remove.
            let _ = upload.abort().await;
            return Err(error);
        }
        upload.complete().await?;
        Ok(())
    }
}

async fn send(upload: &mut dyn MultipartUpload, source: &mut fs::File, file: &FileRecord) -> Result<()> {
    let mut hasher = blake3::Hasher::new();
    loop {
        let bytes = chunk(source)?;
        if bytes.is_empty() {
            return check(hasher.finalize(), file);
        }
        hasher.update(&bytes);
        upload.put_part(bytes.into()).await?;
    }
}

/// The next chunk of a file; empty at its end.
fn chunk(source: &mut fs::File) -> Result<Vec<u8>> {
    let mut bytes = Vec::new();
    source.take(CHUNK).read_to_end(&mut bytes).context(UNREADABLE)?;
    Ok(bytes)
}

/// A damaged artifact stays at home.
fn check(digest: blake3::Hash, file: &FileRecord) -> Result<()> {
    ensure!(digest.to_hex().as_str() == file.digest, "its {} is damaged in the local store", file.path);
    Ok(())
}
