//! Fetching files: side by side, each in chunks, and visible under its digest only when that was checked.

use std::{
    io::{Seek, SeekFrom, Write},
    ops::Range,
    path::Path,
    sync::atomic::{AtomicU64, Ordering},
};

use anyhow::{Context, Result, anyhow, bail, ensure};
use fs_err as fs;
use futures_util::{StreamExt, TryStreamExt, stream};
use object_store::{Error, GetOptions, GetRange, GetResult, ObjectStoreExt, path::Path as Location};

use super::shared::{PARALLEL, Shared};
use crate::engine::store::{Artifact, FileRecord};

/// What is sent or fetched with one request.
pub(super) const CHUNK: u64 = 8 << 20;

/// Fetches an artifact's files into `dir`, by way of `parts`, where they gather under their digests; what a transfer
/// that was cut off has left there isn't fetched again. In `dir` there are all files in the end, or none.
///
/// # Errors
/// If a file is missing or damaged in the remote, or can't be fetched or written.
pub(super) async fn fetch(
    shared: &Shared,
    artifact: &Artifact,
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

/// A small file's bytes.
pub(super) async fn read(shared: &Shared, file: &FileRecord) -> Result<Vec<u8>> {
    let mut bytes = Vec::new();
    let hash = transfer(shared, file, 0, blake3::Hasher::new(), &mut bytes, &|_| ()).await?;
    ensure!(hash == file.digest, "the remote's copy of it is damaged");
    Ok(bytes)
}

/// Fetches a file to `path`, unless it's there. What has come so far lies beside it until its digest is checked.
async fn download(shared: &Shared, file: &FileRecord, path: &Path, advance: &(dyn Fn(u64) + Sync)) -> Result<()> {
    ensure!(!shared.is_bad(&file.digest), "the remote's copy of {} is damaged", file.path);
    if std::fs::metadata(path).is_ok_and(|metadata| metadata.len() == file.bytes) {
        advance(file.bytes);
        return Ok(());
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
        let digest = transfer(shared, file, from, hasher, &mut target, advance).await?;
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
    shared.reject(&file.digest);
    bail!("the remote's copy of {} is damaged", file.path);
}

/// Appends a file's bytes behind the first `from`, and gives the digest of them all; an empty one if that can't be done
/// but from the beginning.
async fn transfer(
    shared: &Shared,
    file: &FileRecord,
    mut from: u64,
    mut hasher: blake3::Hasher,
    target: &mut (dyn Write + Send),
    advance: &(dyn Fn(u64) + Sync),
) -> Result<String> {
    let location = shared.address.blob(&file.digest);
    tracing::debug!(file = file.path, from, of = file.bytes, "downloading");
    let damaged = || {
        shared.reject(&file.digest);
        anyhow!("the remote's copy of {} is damaged", file.path)
    };
    // A partial file can't be resumed if the size differs.
    if from > 0
        && shared.objects.head(&location).await.map_err(|error| shared.explain(&error, file))?.size != file.bytes
    {
        return Err(damaged());
    }
    let mut ranges = true;
    while from < file.bytes || file.bytes == 0 {
        let range = (ranges && (from > 0 || file.bytes > CHUNK)).then(|| from..(from + CHUNK).min(file.bytes));
        let found = match get(shared, &location, range.clone()).await {
            // A web server that only sends whole files: what was left by another transfer is of no use.
            Err(Error::NotSupported { .. }) if range.is_some() => {
                if from > 0 {
                    return Ok(String::new());
                }
                ranges = false;
                continue;
            }
            found => found.map_err(|error| shared.explain(&error, file))?,
        };
        if found.meta.size != file.bytes {
            return Err(damaged());
        }
        let end = range.map_or(file.bytes, |range| range.end);
        let mut chunks = found.into_stream();
        while let Some(chunk) = chunks.next().await {
            let chunk = chunk.map_err(|error| shared.explain(&error, file))?;
            let length = chunk.len() as u64;
            if length > end - from {
                return Err(damaged());
            }
            hasher.update(&chunk);
            target.write_all(&chunk).context("failed to write downloaded data")?;
            shared.bytes.fetch_add(length, Ordering::Relaxed);
            advance(length);
            from += length;
        }
        if from < end {
            return Err(damaged());
        }
        if file.bytes == 0 {
            break;
        }
    }
    Ok(hasher.finalize().to_hex().to_string())
}

async fn get(shared: &Shared, location: &Location, range: Option<Range<u64>>) -> object_store::Result<GetResult> {
    let options = GetOptions { range: range.map(GetRange::Bounded), ..GetOptions::default() };
    shared.objects.get_opts(location, options).await
}

impl Shared {
    /// Why a file can't be fetched.
    fn explain(&self, error: &Error, file: &FileRecord) -> anyhow::Error {
        if matches!(error, Error::NotFound { .. }) {
            self.reject(&file.digest);
            return anyhow!("{} is missing in the remote", file.path);
        }
        self.unreachable(error);
        anyhow!("{} can't be fetched from the remote", file.path)
    }
}
