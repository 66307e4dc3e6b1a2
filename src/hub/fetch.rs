//! Fetching files, a few at a time.

use std::{
    sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering::Relaxed},
    thread,
    time::Duration,
};

use anyhow::{Result, bail, ensure};
use parking_lot::Mutex;
use reqwest::{StatusCode, header::CONTENT_RANGE};

use super::{
    arriving::Arriving,
    cache::Repository,
    listing::{Listed, Listing},
    problems,
    reference::Reference,
    reports::report,
    site::{Connection, Site},
};

/// Files at the same time.
const PARALLEL: usize = 4;
/// Before a request is made once more that failed on the way, in milliseconds.
const PAUSES: [u64; 5] = [200, 1_000, 2_000, 5_000, 10_000];
/// Parts of a hundred after which it's told how far it is.
const STEP: u64 = 10;
/// What is smaller isn't worth to be told of.
const SMALL: u64 = 10_000_000;

/// Fetches files into the cache.
///
/// # Errors
/// The first that fails; what has arrived of others by then is kept.
pub(super) fn fetch(
    site: &Site,
    repository: &Repository,
    reference: &Reference,
    listing: &Listing,
    files: &[&Listed],
) -> Result<()> {
    let total: u64 = files.iter().map(|file| file.bytes).sum();
    if total > SMALL {
        let (commit, count) = (&listing.commit[..12], files.len());
        report(&format!("fetching {} ({commit}): {:.1} GB in {count} files", reference.name, total as f64 / 1e9));
    }
    let run = Run {
        site,
        repository,
        reference,
        commit: &listing.commit,
        total,
        arrived: AtomicU64::new(0),
        is_ending: AtomicBool::new(false),
    };
    let (next, failure) = (AtomicUsize::new(0), Mutex::new(None));
    thread::scope(|scope| {
        for _ in 0..PARALLEL.min(files.len()) {
            scope.spawn(|| {
                while let Some(file) = files.get(next.fetch_add(1, Relaxed)).filter(|_| !run.is_ending.load(Relaxed)) {
                    if let Err(error) = run.fetch(file) {
                        run.is_ending.store(true, Relaxed);
                        failure.lock().get_or_insert(error);
                    }
                }
            });
        }
    });
    failure.into_inner().map_or(Ok(()), Err)
}

struct Run<'a> {
    site: &'a Site,
    repository: &'a Repository,
    reference: &'a Reference,
    commit: &'a str,
    total: u64,
    arrived: AtomicU64,
    /// Whether one has failed, so that the others needn't go on.
    is_ending: AtomicBool,
}

impl Run<'_> {
    fn fetch(&self, file: &Listed) -> Result<()> {
        let _lock = self.repository.lock(file)?;
        let blob = self.repository.blob(file);
        if !blob.exists() {
            let mut arriving = Arriving::open(file, self.repository.incomplete(file))?;
            self.count(arriving.length);
            let connection = Connection::open()?;
            let mut pauses = PAUSES.iter();
            while !arriving.is_complete() {
                let before = arriving.length;
                match connection.runtime.block_on(self.transfer(&connection, file, &mut arriving)) {
                    Ok(()) => {}
                    Err(error) if problems::is_outage(&error) && !self.is_ending.load(Relaxed) => {
                        // Only tries in a row that bring nothing come to an end.
                        if arriving.length > before {
                            pauses = PAUSES.iter();
                        }
                        match pauses.next() {
                            Some(pause) => thread::sleep(Duration::from_millis(*pause)),
                            None => return Err(error),
                        }
                    }
                    Err(error) => return Err(error),
                }
            }
            arriving.finish(&blob)?;
        }
        self.repository.link(self.commit, file)
    }

    /// One request, and what comes of it.
    async fn transfer(&self, connection: &Connection, file: &Listed, arriving: &mut Arriving<'_>) -> Result<()> {
        let Connection { client, .. } = connection;
        let mut answer = self.site.get(client, self.reference, self.commit, &file.path, arriving.length).await?;
        let range = answer.headers().get(CONTENT_RANGE).and_then(|range| range.to_str().ok());
        let goes_on = range.is_some_and(|range| range.starts_with(&format!("bytes {}-", arriving.length)));
        if arriving.length > 0 && !goes_on {
            // It sends all of it, or has nothing from there on: from the beginning, then.
            arriving.restart()?;
            if answer.status() == StatusCode::RANGE_NOT_SATISFIABLE {
                return Ok(());
            }
        }
        let before = arriving.length;
        while let Some(bytes) = answer.chunk().await.map_err(problems::outage)? {
            arriving.take(&bytes)?;
            self.count(bytes.len() as u64);
            if self.is_ending.load(Relaxed) {
                bail!("another file can't be fetched");
            }
        }
        ensure!(arriving.length > before || arriving.is_complete(), "nothing came of {}", file.path);
        Ok(())
    }

    /// Counts what has arrived, and tells at times how much that is.
    fn count(&self, bytes: u64) {
        let before = self.arrived.fetch_add(bytes, Relaxed);
        let part = |bytes: u64| bytes * 100 / self.total.max(1) / STEP;
        if self.total > SMALL && part(before + bytes) > part(before) {
            let name = &self.reference.name;
            report(&format!("{name}: {} % of {:.1} GB", part(before + bytes) * STEP, self.total as f64 / 1e9));
        }
    }
}
