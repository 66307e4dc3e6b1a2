//! Fetching files: side by side, each in chunks, and visible under its digest only when that was checked.

use std::{
    collections::BTreeSet,
    io::{self, Seek, SeekFrom, Write},
    ops::Range,
    path::Path,
    sync::atomic::{AtomicU64, Ordering},
};

use anyhow::{Context, Result, anyhow, ensure};
use fs_err as fs;
use futures_util::{StreamExt, TryStreamExt, stream};
use object_store::{Error, GetOptions, GetRange, GetResult, ObjectStoreExt, path::Path as Location};

use super::shared::{PARALLEL, Shared};
use crate::engine::store::{Artifact, FileRecord, digest_file};

/// Why a file doesn't come whole.
pub(super) enum Obstacle {
    /// It isn't there.
    Missing,
    /// It's there with other bytes, or with another number of them.
    Damaged,
    /// The remote's failure.
    Remote(Error),
    /// The store's failure.
    Local(anyhow::Error),
}

impl From<Error> for Obstacle {
    fn from(error: Error) -> Self {
        if matches!(error, Error::NotFound { .. }) { Self::Missing } else { Self::Remote(error) }
    }
}

impl From<anyhow::Error> for Obstacle {
    fn from(error: anyhow::Error) -> Self {
        Self::Local(error)
    }
}

/// Fetches an artifact's files into `dir`, by way of `parts`, where they gather under their digests; what a transfer
/// that was cut off has left there isn't fetched again, if its bytes are the right ones. Files with these digests in
/// `sound` lie there and have just been looked at. In `dir` there are all files in the end, or none.
///
/// # Errors
/// If a file is missing or damaged in the remote, or can't be fetched or written.
pub(super) async fn fetch(
    shared: &Shared,
    artifact: &Artifact,
    sound: &BTreeSet<String>,
    parts: &Path,
    dir: &Path,
    progress: &(dyn Fn(u64, u64) + Sync),
) -> Result<()> {
    fs::create_dir_all(parts)?;
    let done = AtomicU64::new(0);
    let blobs = artifact.blobs();
    let total = blobs.iter().map(|file| file.bytes).sum();
    let fetched = blobs.into_iter().map(|file| {
        let advance = |bytes| progress(done.fetch_add(bytes, Ordering::Relaxed) + bytes, total);
        async move {
            if sound.contains(&file.digest) {
                advance(file.bytes);
                return Ok(());
            }
            let _permit = shared.gate.acquire().await;
            download(shared, file, &parts.join(&file.digest), &advance).await
        }
    });
    stream::iter(fetched).buffer_unordered(PARALLEL).try_collect::<Vec<()>>().await?;
    for file in &artifact.files {
        let (part, target) = (parts.join(&file.digest), dir.join(&file.path));
        fs::create_dir_all(target.parent().context("a file lies in a directory")?)?;
        if std::fs::hard_link(&part, &target).is_err() {
            fs::copy(&part, &target)?;
        }
    }
    Ok(())
}

/// A file's bytes, in memory.
pub(super) async fn read(shared: &Shared, file: &FileRecord) -> Result<Vec<u8>> {
    let mut bytes = Vec::new();
    let came = |length| {
        shared.bytes.fetch_add(length, Ordering::Relaxed);
    };
    let place = shared.address.blob(&file.digest);
    let transferred = transfer(shared, &place, file, 0, blake3::Hasher::new(), &mut bytes, &came).await;
    let digest = transferred.map_err(|obstacle| shared.explain(obstacle, file))?;
    if digest != file.digest {
        return Err(shared.explain(Obstacle::Damaged, file));
    }
    Ok(bytes)
}

/// Reads the remote's copy of a file in full, and keeps nothing of it.
///
/// # Errors
/// What is wrong with it, or with the remote.
pub(super) async fn verify(shared: &Shared, file: &FileRecord) -> Result<(), Obstacle> {
    let place = shared.address.blob(&file.digest);
    let digest = transfer(shared, &place, file, 0, blake3::Hasher::new(), &mut io::sink(), &|_| ()).await?;
    if digest == file.digest { Ok(()) } else { Err(Obstacle::Damaged) }
}

/// Fetches a file to `path`, unless it's there. What has come so far lies beside it until its digest is checked.
pub(super) async fn download(
    shared: &Shared,
    file: &FileRecord,
    path: &Path,
    advance: &(dyn Fn(u64) + Sync),
) -> Result<()> {
    download_from(shared, &shared.address.blob(&file.digest), file, path, advance).await
}

/// The same from a place that isn't its digest's.
pub(super) async fn download_from(
    shared: &Shared,
    place: &Location,
    file: &FileRecord,
    path: &Path,
    advance: &(dyn Fn(u64) + Sync),
) -> Result<()> {
    ensure!(!shared.is_bad(&file.digest), "the remote's copy of {} is damaged or missing", file.path);
    match std::fs::metadata(path) {
        // The length says little: a power cut may have taken the bytes, and anybody may have been here since.
        Ok(metadata) if metadata.len() == file.bytes && digest_file(path)? == file.digest => {
            advance(file.bytes);
            return Ok(());
        }
        // It may be another artifact's file by a second name, so it's never written to.
        Ok(_) => fs::remove_file(path)?,
        Err(_) => {}
    }
    let part = path.with_extension("part");
    // A partial file of an earlier transfer may be at fault if the digest doesn't match.
    for resumed in [true, false] {
        let mut target = fs::File::options().read(true).write(true).create(true).truncate(false).open(&part)?;
        let mut hasher = blake3::Hasher::new();
        let mut from = target.metadata()?.len();
        if !resumed || from > file.bytes {
            target.set_len(0)?;
            from = 0;
        }
        target.seek(SeekFrom::Start(0))?;
        hasher.update_reader(&mut target).with_context(|| format!("failed to read {}", part.display()))?;
        if resumed {
            advance(from);
        }
        let came = |length| {
            shared.bytes.fetch_add(length, Ordering::Relaxed);
            advance(length);
        };
        let transferred = transfer(shared, place, file, from, hasher, &mut target, &came).await;
        let digest = transferred.map_err(|obstacle| shared.explain(obstacle, file))?;
        if digest == file.digest {
            drop(target);
            fs::rename(&part, path)?;
            shared.files.fetch_add(1, Ordering::Relaxed);
            return Ok(());
        }
        if from == 0 {
            break;
        }
    }
    let _ = std::fs::remove_file(&part);
    Err(shared.explain(Obstacle::Damaged, file))
}

/// Appends a file's bytes behind the first `from`, and gives the digest of them all; an empty one if that can't be done
/// but from the beginning. `came` is told how many bytes have come.
async fn transfer(
    shared: &Shared,
    location: &Location,
    file: &FileRecord,
    mut from: u64,
    mut hasher: blake3::Hasher,
    target: &mut (dyn Write + Send),
    came: &(dyn Fn(u64) + Sync),
) -> Result<String, Obstacle> {
    tracing::debug!(file = file.path, from, of = file.bytes, "downloading");
    // A partial file can't be resumed if the size differs.
    if from > 0 && shared.objects.head(location).await?.size != file.bytes {
        return Err(Obstacle::Damaged);
    }
    let mut ranges = true;
    while from < file.bytes || file.bytes == 0 {
        let range =
            (ranges && (from > 0 || file.bytes > shared.chunk)).then(|| from..(from + shared.chunk).min(file.bytes));
        let found = match get(shared, location, range.clone()).await {
            // A web server that only sends whole files: what was left by another transfer is of no use.
            Err(Error::NotSupported { .. }) if range.is_some() => {
                if from > 0 {
                    return Ok(String::new());
                }
                ranges = false;
                continue;
            }
            found => found?,
        };
        if found.meta.size != file.bytes {
            return Err(Obstacle::Damaged);
        }
        let end = range.map_or(file.bytes, |range| range.end);
        let mut chunks = found.into_stream();
        while let Some(chunk) = chunks.next().await {
            let chunk = chunk?;
            let length = chunk.len() as u64;
            if length > end - from {
                return Err(Obstacle::Damaged);
            }
            hasher.update(&chunk);
            target.write_all(&chunk).context("failed to write downloaded data")?;
            came(length);
            from += length;
        }
        if from < end {
            return Err(Obstacle::Damaged);
        }
        if file.bytes == 0 {
            break;
        }
    }
    Ok(hasher.finalize().to_hex().to_string())
}

/// All bytes that lie there, if there's anything.
pub(super) async fn whole(shared: &Shared, location: &Location) -> object_store::Result<Option<Vec<u8>>> {
    match get(shared, location, None).await {
        Ok(found) => Ok(Some(found.bytes().await?.to_vec())),
        Err(Error::NotFound { .. }) => Ok(None),
        Err(error) => Err(error),
    }
}

/// What lies there, or bytes of it.
pub(super) async fn get(
    shared: &Shared,
    location: &Location,
    range: Option<Range<u64>>,
) -> object_store::Result<GetResult> {
    let options = GetOptions { range: range.map(GetRange::Bounded), ..GetOptions::default() };
    shared.objects.get_opts(location, options).await
}

impl Shared {
    /// Why a file can't be fetched. What isn't there as it should be isn't looked for again.
    fn explain(&self, obstacle: Obstacle, file: &FileRecord) -> anyhow::Error {
        match obstacle {
            Obstacle::Missing => {
                self.reject(&file.digest);
                anyhow!("{} is missing in the remote", file.path)
            }
            Obstacle::Damaged => {
                self.reject(&file.digest);
                anyhow!("the remote's copy of {} is damaged", file.path)
            }
            Obstacle::Remote(error) => {
                self.unreachable(&error);
                anyhow!("{} can't be fetched from the remote", file.path)
            }
            Obstacle::Local(error) => error,
        }
    }
}
