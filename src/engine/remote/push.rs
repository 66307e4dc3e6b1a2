//! Pushing: files first, those that aren't there, and then the record, so that who finds a record finds its files.

use std::{
    fmt,
    io::Read,
    path::Path,
    sync::{Arc, atomic::Ordering},
};

use anyhow::{Context, Result, ensure};
use fs_err as fs;
use futures_util::{StreamExt, TryStreamExt, stream};
use object_store::{Error, MultipartUpload, ObjectStoreExt, PutPayload, path::Path as Location};

use super::{
    blobs::{self, Obstacle},
    decode, encode,
    shared::{PARALLEL, Shared},
    sound::Marking,
};
use crate::engine::store::{Artifact, FileRecord};

const UNREADABLE: &str = "failed to read a file of the store";
const NOT_ARRIVED: &str = "what was uploaded isn't there, or isn't what was uploaded";

/// What became of an artifact that the remote is to have.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Delivery {
    /// It's there, with all its files as they should be: that was looked at.
    There,
    /// It wasn't, or not whole, and is now.
    Sent,
    /// It isn't there, or not whole, and couldn't be sent; why was reported.
    Failed,
}

/// How much is asked of the remote before something counts as being there.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Effort {
    /// Nothing: the artifact was just made, and replaces what is there.
    Replace,
    /// Whether there is a sound record.
    Record,
    /// Whether there is a sound record, and whether its files are.
    Whole,
}

/// Pushes an artifact as far as it isn't there. Failures are reported, not returned.
pub(super) async fn push(shared: Arc<Shared>, artifact: Artifact, effort: Effort) -> Delivery {
    let delivery = match shared.is_given_up(effort) {
        true => Delivery::Failed,
        false => shared.push(&artifact, effort).await.unwrap_or_else(|error| {
            match error.downcast_ref::<Error>() {
                Some(error) => shared.refused(error),
                None if error.is::<GivenUp>() => {}
                None => {
                    let key = &artifact.key[..12];
                    (shared.report)(&format!("warning: {key} was not pushed to the remote: {error:#}"));
                }
            }
            Delivery::Failed
        }),
    };
    match delivery {
        Delivery::There => {}
        Delivery::Sent => _ = shared.pushed.fetch_add(1, Ordering::Relaxed),
        Delivery::Failed => _ = shared.unpushed.fetch_add(1, Ordering::Relaxed),
    }
    delivery
}

/// The error of what isn't sent, since the remote took something else badly, which was told.
#[derive(Debug)]
struct GivenUp;

impl fmt::Display for GivenUp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the remote takes nothing")
    }
}

impl std::error::Error for GivenUp {}

impl Shared {
    /// Whether nothing more is tried. A remote that takes nothing can still be looked at.
    fn is_given_up(&self, effort: Effort) -> bool {
        self.offline.load(Ordering::Relaxed) || effort != Effort::Whole && self.refuses.load(Ordering::Relaxed)
    }

    async fn push(&self, artifact: &Artifact, effort: Effort) -> Result<Delivery> {
        let key = &artifact.key;
        if effort != Effort::Replace
            && !self.is_bad(key)
            && let Some(text) = self.get_record(key).await?
            && let Ok(there) = decode(&text, key)
            && (effort == Effort::Record || self.has_files(&there).await?)
        {
            self.cache.write(key, &text);
            return Ok(Delivery::There);
        }
        let uploads = artifact.blobs().into_iter().cloned().map(|file| async move {
            let _permit = self.gate.acquire().await;
            self.upload(&artifact.file(&file.path), &file, effort).await
        });
        stream::iter(uploads).buffer_unordered(PARALLEL).try_collect::<Vec<()>>().await?;
        let text = encode(artifact)?;
        self.put(&self.address.record(key), text.clone()).await?;
        if effort == Effort::Whole {
            ensure!(self.get_record(key).await?.is_some_and(|there| there == text), NOT_ARRIVED);
        }
        self.accept(key);
        self.cache.write(key, &text);
        Ok(Delivery::Sent)
    }

    /// Whether the remote has all files of a record as the record tells.
    ///
    /// # Errors
    /// The remote's.
    pub(super) async fn has_files(&self, artifact: &Artifact) -> object_store::Result<bool> {
        let files = artifact.blobs().into_iter().cloned().map(|file| async move {
            let _permit = self.gate.acquire().await;
            self.has(&file).await
        });
        let found: Vec<bool> = stream::iter(files).buffer_unordered(PARALLEL).try_collect().await?;
        Ok(found.into_iter().all(|is_there| is_there))
    }

    /// Whether the remote has a file as it should be. It's read, unless it was before and its mark is the same.
    async fn has(&self, file: &FileRecord) -> object_store::Result<bool> {
        if self.is_bad(&file.digest) {
            return Ok(false);
        }
        let found = match self.objects.head(&self.address.blob(&file.digest)).await {
            Ok(found) if found.size == file.bytes => found,
            Ok(_) | Err(Error::NotFound { .. }) => return Ok(false),
            Err(error) => return Err(error),
        };
        let mark = self.address.mark(&found);
        if self.sound.holds(&file.digest, mark.as_deref()) {
            return Ok(true);
        }
        match blobs::verify(self, file).await {
            Ok(()) => {
                self.sound.learn(&file.digest, mark);
                Ok(true)
            }
            Err(Obstacle::Remote(error)) => Err(error),
            Err(Obstacle::Missing | Obstacle::Damaged | Obstacle::Local(_)) => {
                self.reject(&file.digest);
                Ok(false)
            }
        }
    }

    /// Uploads a file, unless it's there as it should be.
    pub(super) async fn upload(&self, path: &Path, file: &FileRecord, effort: Effort) -> Result<()> {
        if self.has(file).await? {
            tracing::debug!(file = file.path, "the remote has it");
            return Ok(());
        }
        self.send_file(&self.address.blob(&file.digest), &mut fs::File::open(path)?, file).await?;
        self.accept(&file.digest);
        if effort == Effort::Whole {
            ensure!(self.has_come(file).await?, NOT_ARRIVED);
        }
        Ok(())
    }

    /// Uploads a file to a place, if it's what its record says.
    pub(super) async fn send_file(&self, location: &Location, source: &mut fs::File, file: &FileRecord) -> Result<()> {
        tracing::debug!(file = file.path, bytes = file.bytes, "uploading");
        if file.bytes > self.chunk {
            return self.upload_parts(location, source, file).await;
        }
        let bytes = chunk(source, self.chunk)?;
        check(blake3::hash(&bytes), file)?;
        self.put(location, bytes).await
    }

    /// Whether a file that was uploaded is there: a web server may have lost bytes of it on the way, others check what comes.
    async fn has_come(&self, file: &FileRecord) -> object_store::Result<bool> {
        if self.address.marking() == Marking::Unsure {
            return self.has(file).await;
        }
        Ok(self.objects.head(&self.address.blob(&file.digest)).await?.size == file.bytes)
    }

    async fn put(&self, location: &Location, bytes: Vec<u8>) -> Result<()> {
        ensure!(!self.refuses.load(Ordering::Relaxed), GivenUp);
        self.objects.put(location, PutPayload::from(bytes)).await?;
        Ok(())
    }

    /// Uploads a large file in parts. Nothing of it is there before the last one. A web server takes no parts, so that it
    /// has to lie in memory as a whole.
    async fn upload_parts(&self, location: &Location, source: &mut fs::File, file: &FileRecord) -> Result<()> {
        ensure!(!self.refuses.load(Ordering::Relaxed), GivenUp);
        let mut upload = match self.objects.put_multipart(location).await {
            Err(Error::NotImplemented { .. }) => {
                let mut bytes = Vec::new();
                source.read_to_end(&mut bytes).context(UNREADABLE)?;
                check(blake3::hash(&bytes), file)?;
                return self.put(location, bytes).await;
            }
            upload => upload?,
        };
        if let Err(error) = send(&mut *upload, source, file, self.chunk).await {
            // What can't be taken back is an unfinished upload, which the remote's own rules remove.
            let _ = upload.abort().await;
            return Err(error);
        }
        upload.complete().await?;
        Ok(())
    }
}

async fn send(upload: &mut dyn MultipartUpload, source: &mut fs::File, file: &FileRecord, length: u64) -> Result<()> {
    let mut hasher = blake3::Hasher::new();
    loop {
        let bytes = chunk(source, length)?;
        if bytes.is_empty() {
            return check(hasher.finalize(), file);
        }
        hasher.update(&bytes);
        upload.put_part(bytes.into()).await?;
    }
}

/// The next chunk of a file; empty at its end.
fn chunk(source: &mut fs::File, length: u64) -> Result<Vec<u8>> {
    let mut bytes = Vec::new();
    source.take(length).read_to_end(&mut bytes).context(UNREADABLE)?;
    Ok(bytes)
}

/// A damaged artifact stays at home.
fn check(digest: blake3::Hash, file: &FileRecord) -> Result<()> {
    ensure!(digest.to_hex().as_str() == file.digest, "its {} is damaged in the local store", file.path);
    Ok(())
}
