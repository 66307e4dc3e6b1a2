//! Leases: a key is computed by the holder of its lease, for as long as the lease is kept alive.
//!
//! `leases/KEY` holds a heartbeat counter, which the holder raises every [`BEAT`], and below it the holder. Any other
//! process that wants the key watches the file. If it has stayed the same for the store's patience, by the watcher's own steady
//! clock, or if the holder was a process of the same machine that has ended, the lease may be taken over. No two clocks are
//! ever compared, so it doesn't matter how they're set.
//!
//! A lease changes hands, and an artifact takes its place, under one lock that is held for an instant (see [`Guard`]). A
//! holder that was suspended and lost its lease finds that out there, and commits nothing.

use std::{
    fmt,
    fs::File,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::SeqCst},
    },
    thread::JoinHandle,
    time::{Duration, Instant},
};

use anyhow::{Context, Result};
use fs_err as fs;
use serde::{Deserialize, Serialize};

use super::{atomic, format::Settings, guard::Guard, holder::Holder, manifest::short};
use crate::support::clock::{Clock, Signal, SystemClock};

/// How often a holder shows that it's alive.
const BEAT: Duration = Duration::from_secs(2);
/// The pause between two looks at another holder's lease; the first are shorter.
const PAUSE: Duration = Duration::from_millis(200);

/// The leases of a store.
#[derive(Clone, Debug)]
pub(super) struct Leases {
    root: PathBuf,
    /// How long a lease stays as it is before it counts as left behind.
    patience: Duration,
    /// Set to end waiting.
    pub(super) stop: Arc<AtomicBool>,
    pub(super) clock: Arc<dyn Clock>,
}

/// What a look at a key's lease has shown.
enum Look {
    /// It can be taken: nobody holds it, or what is there is left behind.
    Free(Option<Vec<u8>>),
    /// Somebody holds it.
    Held,
}

/// Watches a key's lease: what was last seen there, and when it was first seen so.
#[derive(Debug, Default)]
struct Sight(Option<(Vec<u8>, Instant)>);

impl Sight {
    fn look(&mut self, leases: &Leases, key: &str) -> Result<Look> {
        let text = leases.read(key)?;
        let is_free = match (&text, &self.0) {
            (None, _) => true,
            // An empty one is what a power cut left: its holder is no more.
            (Some(text), _) if is_cut(text) => true,
            (Some(text), _) if parse(text).is_some_and(|holder| holder.is_gone()) => true,
            (Some(text), Some((seen, since))) => text == seen && leases.since(*since) >= leases.patience,
            (Some(_), None) => false,
        };
        if is_free {
            return Ok(Look::Free(text));
        }
        if let Some(text) = text
            && self.0.as_ref().is_none_or(|(seen, _)| *seen != text)
        {
            if self.0.is_none() {
                let holder = parse(&text).unwrap_or_default();
                tracing::info!(key = short(key), host = %holder.host, pid = holder.pid, "waiting for a lease");
            }
            self.0 = Some((text, leases.clock.now()));
        }
        Ok(Look::Held)
    }
}

/// Waits for a key's lease by looking at it again and again.
struct Watch<'a> {
    leases: &'a Leases,
    key: &'a str,
    holder: Holder,
    sight: Sight,
}

impl Watch<'_> {
    /// Takes the lease if it's free or left behind.
    fn look(&mut self) -> Result<Option<Lease>> {
        match self.sight.look(self.leases, self.key)? {
            Look::Free(text) => self.leases.replace(self.key, text.as_deref(), &self.holder),
            Look::Held => Ok(None),
        }
    }
}

/// Whether a key can be had, for one who has other things to do meanwhile.
#[derive(Debug)]
pub struct KeyWatch {
    leases: Leases,
    key: String,
    sight: Sight,
}

impl KeyWatch {
    /// Looks at the lease, and gives what is to be taken over then; `None` while another process holds it.
    ///
    /// # Errors
    /// The file system's.
    pub fn look(&mut self) -> Result<Option<LeftBehind>> {
        Ok(match self.sight.look(&self.leases, &self.key)? {
            Look::Free(text) => Some(LeftBehind(text.map(|text| String::from_utf8_lossy(&text).into_owned()))),
            Look::Held => None,
        })
    }
}

/// A lease as it was seen when it could be taken; empty where there was none.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
#[serde(transparent)]
pub struct LeftBehind(Option<String>);

impl Leases {
    pub(super) fn new(root: &Path) -> Self {
        let patience = Settings::now(root).patience;
        Self { root: root.to_owned(), patience, stop: Arc::default(), clock: Arc::new(SystemClock) }
    }

    fn dir(&self) -> PathBuf {
        self.root.join("leases")
    }

    fn path(&self, key: &str) -> PathBuf {
        self.dir().join(key)
    }

    /// Waits until the key's lease is free or left behind, and takes it; `waiting` is called once before that.
    ///
    /// # Errors
    /// [`Stopped`] if a stop was requested; the file system's.
    pub(super) fn take(&self, key: &str, inputs: Vec<String>, waiting: &dyn Fn()) -> Result<Lease> {
        let mut watch = self.watch(key, inputs);
        let mut pause = Duration::from_millis(5);
        loop {
            let was_held = watch.sight.0.is_some();
            if let Some(lease) = watch.look()? {
                return Ok(lease);
            }
            if !was_held && watch.sight.0.is_some() {
                waiting();
            }
            if self.stop.load(SeqCst) {
                return Err(Stopped.into());
            }
            self.clock.sleep(pause);
            pause = (pause * 2).min(PAUSE);
        }
    }

    fn watch<'a>(&'a self, key: &'a str, inputs: Vec<String>) -> Watch<'a> {
        Watch { leases: self, key, holder: Holder::own(inputs), sight: Sight::default() }
    }

    /// Watches a key's lease without waiting for it.
    pub(super) fn key_watch(&self, key: &str) -> KeyWatch {
        KeyWatch { leases: self.clone(), key: key.to_owned(), sight: Sight::default() }
    }

    /// Takes the key's lease if nobody holds it, or if it's still what was seen to be left behind; `None` if it's held.
    ///
    /// # Errors
    /// The file system's.
    pub(super) fn try_take(&self, key: &str, inputs: Vec<String>, left: &LeftBehind) -> Result<Option<Lease>> {
        let mut sight = Sight::default();
        let text = match sight.look(self, key)? {
            Look::Free(text) => text,
            Look::Held => match (&left.0, sight.0) {
                (Some(left), Some((text, _))) if left.as_bytes() == text => Some(text),
                _ => return Ok(None),
            },
        };
        self.replace(key, text.as_deref(), &Holder::own(inputs))
    }

    fn since(&self, then: Instant) -> Duration {
        self.clock.now().saturating_duration_since(then)
    }

    /// Puts a lease in the place of what was seen there; `None` if it's no longer what was seen.
    fn replace(&self, key: &str, seen: Option<&[u8]>, holder: &Holder) -> Result<Option<Lease>> {
        let (path, dir) = (self.path(key), self.dir());
        let text = format!("{:020}\n{}\n", 0, serde_json::to_string(holder)?);
        // Before the lock is taken, since a disk may be slow.
        let file = atomic::prepare(&dir, text.as_bytes()).context("failed to write a lease")?;
        let file = {
            let _guard = self.guard()?;
            if self.read(key)?.as_deref() != seen {
                return Ok(None);
            }
            file.persist(&path).with_context(|| format!("failed to write {}", path.display()))?
        };
        match seen {
            Some(_) => tracing::info!(key = short(key), "took over a lease whose holder shows no life"),
            None => tracing::debug!(key = short(key), "took the lease"),
        }
        let lease = Lease::new(self.clone(), key, holder.token.clone(), file);
        atomic::sync_dir(&dir)?;
        Ok(Some(lease))
    }

    /// Who holds a key's lease, if anybody does.
    pub(super) fn holder(&self, key: &str) -> Result<Option<Holder>> {
        let text = self.read(key)?.filter(|text| !is_cut(text));
        Ok(text.map(|text| parse(&text).unwrap_or_default()))
    }

    fn is_held_by(&self, key: &str, token: &str) -> Result<bool> {
        Ok(self.holder(key)?.is_some_and(|holder| holder.token == token))
    }

    /// The lock under which leases change hands. Nothing slow may be done while it's held.
    pub(super) fn guard(&self) -> Result<Guard> {
        Guard::take(&self.root, &*self.clock, self.patience)
    }

    /// Removes what processes that were killed have left beside the leases.
    pub(super) fn clear_leftovers(&self) {
        let dir = self.dir();
        if atomic::has_leftovers(&dir) {
            // Versions whose temporary files don't tell whose they are make them under the lock.
            let guard = File::options().read(true).write(true).open(self.root.join("format"));
            let is_locked = guard.as_ref().is_ok_and(|guard| guard.try_lock().is_ok());
            atomic::clear(&dir, is_locked);
        }
    }

    fn read(&self, key: &str) -> Result<Option<Vec<u8>>> {
        match fs::read(self.path(key)) {
            Ok(text) => Ok(Some(text)),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error.into()),
        }
    }
}

/// Waiting for a key that another process computes was ended.
#[derive(Debug)]
pub struct Stopped;

impl fmt::Display for Stopped {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("stopped while it waited for another process")
    }
}

impl std::error::Error for Stopped {}

/// Whether nothing is in a lease's text, as it's never written.
fn is_cut(text: &[u8]) -> bool {
    text.iter().all(|byte| *byte == 0 || byte.is_ascii_whitespace())
}

/// The holder in a lease's text; `None` where it can't be understood, as one of another version may be.
fn parse(text: &[u8]) -> Option<Holder> {
    let end = text.iter().position(|byte| *byte == b'\n')?;
    serde_json::from_slice(&text[end..]).ok()
}

/// A key that is held until this is dropped, or until another process finds that its holder is unresponsive.
#[derive(Debug)]
pub(super) struct Lease {
    leases: Leases,
    key: String,
    token: String,
    lost: Arc<AtomicBool>,
    beat: Option<(Signal, JoinHandle<()>)>,
}

impl Lease {
    fn new(leases: Leases, key: &str, token: String, file: File) -> Self {
        let stop = Signal::default();
        let lost = Arc::new(AtomicBool::new(false));
        let beating = Beating { leases: leases.clone(), key: key.to_owned(), token: token.clone(), file };
        let (flag, stopped) = (Arc::clone(&lost), stop.clone());
        // A lease without heartbeat is taken over in the end.
        let beat = std::thread::Builder::new().name("lease".into()).spawn(move || beating.until(&stopped, &flag));
        Self { leases, key: key.to_owned(), token, lost, beat: beat.ok().map(|thread| (stop, thread)) }
    }

    /// Different for every lease that was ever taken.
    pub(super) fn token(&self) -> &str {
        &self.token
    }

    pub(super) fn guard(&self) -> Result<Guard> {
        self.leases.guard()
    }

    /// Whether it's still held. Certain only under the guard.
    pub(super) fn is_held(&self) -> Result<bool> {
        self.leases.is_held_by(&self.key, &self.token)
    }

    /// Is set at the first heartbeat after it was taken over.
    pub(super) fn lost(&self) -> &AtomicBool {
        &self.lost
    }
}

/// What a holder's thread does.
struct Beating {
    leases: Leases,
    key: String,
    token: String,
    /// The lease, which may have lost its name.
    file: File,
}

impl Beating {
    /// Raises the number at the beginning of the lease, and sets `lost` if another lease has taken its name.
    fn until(&self, stopped: &Signal, lost: &AtomicBool) {
        use std::io::{Seek, Write};

        let mut file = &self.file;
        let mut count = 0_u64;
        while !self.leases.clock.wait(BEAT, stopped) {
            count += 1;
            let written = file.rewind().and_then(|()| file.write_all(format!("{count:020}").as_bytes()));
            // So that other machines see it.
            let _ = written.and_then(|()| file.sync_data());
            if let Ok(false) = self.leases.is_held_by(&self.key, &self.token) {
                tracing::warn!(key = short(&self.key), "lost the lease");
                lost.store(true, SeqCst);
            }
        }
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        if let Some((stop, thread)) = self.beat.take() {
            stop.raise();
            let _ = thread.join();
        }
        // What can't be removed is taken over as soon as this process has ended.
        if let Ok(_guard) = self.guard()
            && let Ok(true) = self.is_held()
        {
            let _ = std::fs::remove_file(self.leases.path(&self.key));
        }
    }
}

#[cfg(test)]
mod tests;
