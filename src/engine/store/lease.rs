//! Who may compute a key: the holder of its lease, for as long as the lease is kept alive.
//!
//! `leases/KEY` holds a number that the holder raises every [`BEAT`], and below it who the holder is. Whoever else wants
//! the key watches the file. If it has stayed the same for the watcher's patience, by the watcher's own steady clock, or if
//! the holder was a process of the same machine that has ended, the lease may be taken over. No two clocks are ever
//! compared, so it doesn't matter how they're set.
//!
//! A lease changes hands, and an artifact takes its place, under one lock that is held for an instant (the store's
//! `format` file). A holder that was suspended and lost its lease finds that out there, and commits nothing.

use std::{
    fmt,
    fs::File,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::SeqCst},
        mpsc,
    },
    thread::JoinHandle,
    time::{Duration, Instant},
};

use anyhow::{Context, Result};
use fs_err as fs;

use super::{aside, holder::Holder, short};

/// How often a holder shows that it's alive.
const BEAT: Duration = Duration::from_secs(2);
/// How long a lease stays as it is before it counts as left behind.
pub(super) const PATIENCE: Duration = Duration::from_secs(30);
/// The pause between two looks at somebody else's lease; the first are shorter.
const PAUSE: Duration = Duration::from_millis(200);

/// The leases of a store.
#[derive(Clone, Debug)]
pub(super) struct Leases {
    root: PathBuf,
    pub(super) patience: Duration,
    /// Set by whoever wants waiting to end.
    pub(super) stop: Arc<AtomicBool>,
}

/// What was seen of a lease that somebody holds.
struct Watch {
    text: Vec<u8>,
    since: Instant,
}

impl Leases {
    pub(super) fn new(root: &Path) -> Self {
        Self { root: root.to_owned(), patience: PATIENCE, stop: Arc::default() }
    }

    fn path(&self, key: &str) -> PathBuf {
        self.root.join("leases").join(key)
    }

    /// Waits until the key's lease is free or left behind, and takes it; `waiting` is called once before that.
    ///
    /// # Errors
    /// [`Stopped`] if it's told to stop; the file system's.
    pub(super) fn take(&self, key: &str, inputs: Vec<String>, waiting: &dyn Fn()) -> Result<Lease> {
        let holder = Holder::own(inputs);
        let mut watch: Option<Watch> = None;
        let mut pause = Duration::from_millis(5);
        loop {
            let text = self.read(key)?;
            let is_free = match (&text, &watch) {
                (None, _) => true,
                (Some(text), _) if parse(text).is_some_and(|holder| holder.is_gone()) => true,
                (Some(text), Some(watch)) => *text == watch.text && watch.since.elapsed() >= self.patience,
                (Some(_), None) => false,
            };
            if is_free && let Some(lease) = self.replace(key, text.as_deref(), &holder)? {
                match &text {
                    Some(_) => tracing::info!(key = short(key), "took over a lease whose holder shows no life"),
                    None => tracing::debug!(key = short(key), "took the lease"),
                }
                return Ok(lease);
            }
            match (text, &watch) {
                (Some(text), Some(watch)) if text == watch.text => {}
                (Some(text), _) => {
                    if watch.is_none() {
                        let holder = parse(&text).unwrap_or_default();
                        tracing::info!(key = short(key), host = %holder.host, pid = holder.pid, "waiting for a lease");
                        waiting();
                    }
                    watch = Some(Watch { text, since: Instant::now() });
                }
                (None, _) => {}
            }
            if self.stop.load(SeqCst) {
                return Err(Stopped.into());
            }
            std::thread::sleep(pause);
            pause = (pause * 2).min(PAUSE);
        }
    }

    /// Puts a lease in the place of what was seen there; `None` if it's no longer what was seen.
    fn replace(&self, key: &str, seen: Option<&[u8]>, holder: &Holder) -> Result<Option<Lease>> {
        let path = self.path(key);
        let text = format!("{:020}\n{}\n", 0, serde_json::to_string(holder)?);
        let _guard = self.guard()?;
        if self.read(key)?.as_deref() != seen {
            return Ok(None);
        }
        let mut file = aside::create(&self.root.join("leases"))?;
        std::io::Write::write_all(&mut file, text.as_bytes()).context("failed to write a lease")?;
        let file = file.persist(&path).with_context(|| format!("failed to write {}", path.display()))?;
        Ok(Some(Lease::new(self.clone(), key, holder.token.clone(), file)))
    }

    /// Who holds a key's lease, if anybody does.
    pub(super) fn holder(&self, key: &str) -> Result<Option<Holder>> {
        Ok(self.read(key)?.map(|text| parse(&text).unwrap_or_default()))
    }

    fn is_held_by(&self, key: &str, token: &str) -> Result<bool> {
        Ok(self.holder(key)?.is_some_and(|holder| holder.token == token))
    }

    /// The lock under which leases change hands. Nothing slow may be done while it's held.
    pub(super) fn guard(&self) -> Result<File> {
        let path = self.root.join("format");
        let what = || format!("failed to lock {}", path.display());
        let file = File::options().read(true).write(true).open(&path).with_context(what)?;
        file.lock().with_context(what)?;
        Ok(file)
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

/// The holder in a lease's text; `None` where it can't be understood, as one of another version may be.
fn parse(text: &[u8]) -> Option<Holder> {
    let end = text.iter().position(|byte| *byte == b'\n')?;
    serde_json::from_slice(&text[end..]).ok()
}

/// A key that is held until this is dropped, or until somebody finds that its holder shows no life.
#[derive(Debug)]
pub(super) struct Lease {
    leases: Leases,
    key: String,
    token: String,
    lost: Arc<AtomicBool>,
    beat: Option<(mpsc::Sender<()>, JoinHandle<()>)>,
}

impl Lease {
    fn new(leases: Leases, key: &str, token: String, file: File) -> Self {
        let (stop, stopped) = mpsc::channel();
        let lost = Arc::new(AtomicBool::new(false));
        let beating = Beating { leases: leases.clone(), key: key.to_owned(), token: token.clone(), file };
        let tell = Arc::clone(&lost);
        // What fails to beat is taken over in the end; there's nobody to tell.
        let beat = std::thread::Builder::new().name("lease".into()).spawn(move || beating.until(&stopped, &tell));
        Self { leases, key: key.to_owned(), token, lost, beat: beat.ok().map(|thread| (stop, thread)) }
    }

    /// Different for every lease that was ever taken.
    pub(super) fn token(&self) -> &str {
        &self.token
    }

    pub(super) fn guard(&self) -> Result<File> {
        self.leases.guard()
    }

    /// Whether nobody has taken it over. Certain only under the guard.
    pub(super) fn is_held(&self) -> Result<bool> {
        self.leases.is_held_by(&self.key, &self.token)
    }

    /// Is set at the first beat after somebody took it over.
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
    /// Raises the number at the beginning of the lease, and says so if another has taken its name.
    fn until(&self, stopped: &mpsc::Receiver<()>, lost: &AtomicBool) {
        use std::io::{Seek, Write};

        let mut file = &self.file;
        let mut count = 0_u64;
        while stopped.recv_timeout(BEAT) == Err(mpsc::RecvTimeoutError::Timeout) {
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
            drop(stop);
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
mod tests {
    use std::{
        sync::atomic::{AtomicUsize, Ordering},
        thread,
    };

    use super::*;

    fn leases(dir: &Path) -> Leases {
        std::fs::create_dir(dir.join("leases")).unwrap();
        std::fs::write(dir.join("format"), "2\n").unwrap();
        Leases { patience: Duration::from_millis(150), ..Leases::new(dir) }
    }

    /// A lease as another machine left it.
    fn foreign(leases: &Leases, key: &str) {
        let holder = r#"{"token":"0","host":"elsewhere","pid":1,"started":5,"space":"another","more":[1]}"#;
        std::fs::write(leases.path(key), format!("{:020}\n{holder}\n", 7)).unwrap();
    }

    #[test]
    fn a_lease_is_held_by_one_at_a_time_and_leaves_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let leases = leases(dir.path());
        let holders = AtomicUsize::new(0);
        thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| {
                    for _ in 0..10 {
                        let lease = leases.take("key", Vec::new(), &|| {}).unwrap();
                        assert_eq!(holders.fetch_add(1, Ordering::SeqCst), 0);
                        thread::sleep(Duration::from_micros(50));
                        assert_eq!(holders.fetch_sub(1, Ordering::SeqCst), 1);
                        assert!(lease.is_held().unwrap());
                    }
                });
            }
        });
        assert_eq!(std::fs::read_dir(dir.path().join("leases")).unwrap().count(), 0);
    }

    #[test]
    fn lease_that_shows_no_life_is_taken_over_by_one_only() {
        let dir = tempfile::tempdir().unwrap();
        let leases = leases(dir.path());
        foreign(&leases, "key");
        let holders = AtomicUsize::new(0);
        thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    let began = Instant::now();
                    let lease = leases.take("key", Vec::new(), &|| {}).unwrap();
                    assert!(began.elapsed() >= leases.patience);
                    assert_eq!(holders.fetch_add(1, Ordering::SeqCst), 0);
                    thread::sleep(Duration::from_millis(20));
                    assert_eq!(holders.fetch_sub(1, Ordering::SeqCst), 1);
                    assert!(lease.is_held().unwrap());
                });
            }
        });
    }

    #[test]
    fn lease_that_beats_is_not_taken_over() {
        let dir = tempfile::tempdir().unwrap();
        let leases = leases(dir.path());
        let elsewhere = leases.clone();
        let (stop, stopped) = mpsc::channel::<()>();
        thread::scope(|scope| {
            foreign(&leases, "key");
            scope.spawn(move || {
                let mut beat = 8;
                while stopped.recv_timeout(Duration::from_millis(20)).is_err() {
                    let mut text = std::fs::read(elsewhere.path("key")).unwrap();
                    text[..20].copy_from_slice(format!("{beat:020}").as_bytes());
                    std::fs::write(elsewhere.path("key"), text).unwrap();
                    beat += 1;
                }
                std::fs::remove_file(elsewhere.path("key")).unwrap();
            });
            let began = Instant::now();
            let waits = AtomicUsize::new(0);
            scope.spawn(move || {
                thread::sleep(Duration::from_millis(800));
                let _ = stop.send(());
            });
            let lease = leases
                .take("key", Vec::new(), &|| waits.store(1 + waits.load(Ordering::SeqCst), Ordering::SeqCst))
                .unwrap();
            assert!(began.elapsed() >= Duration::from_millis(800) && lease.is_held().unwrap());
            assert_eq!(waits.load(Ordering::SeqCst), 1);
        });
    }

    #[test]
    fn holder_that_lost_its_lease_knows_and_does_not_remove_the_new_one() {
        let dir = tempfile::tempdir().unwrap();
        let leases = leases(dir.path());
        let lost = leases.take("key", Vec::new(), &|| {}).unwrap();
        let seen = leases.read("key").unwrap();
        let new = leases.replace("key", seen.as_deref(), &Holder::own(Vec::new())).unwrap().unwrap();
        assert!(!lost.is_held().unwrap() && new.is_held().unwrap());
        thread::sleep(BEAT + Duration::from_millis(500));
        assert!(lost.lost().load(Ordering::SeqCst) && !new.lost().load(Ordering::SeqCst));
        drop(lost);
        assert!(new.is_held().unwrap());
        drop(new);
        assert!(leases.holder("key").unwrap().is_none());
    }

    #[test]
    fn waiting_ends_when_it_is_told_to() {
        let dir = tempfile::tempdir().unwrap();
        let leases = leases(dir.path());
        foreign(&leases, "key");
        let waits = Leases { patience: Duration::from_secs(3600), ..leases.clone() };
        let error = waits.take("key", Vec::new(), &|| waits.stop.store(true, Ordering::SeqCst)).unwrap_err();
        assert!(error.is::<Stopped>(), "{error:#}");
        assert!(leases.holder("key").unwrap().is_some());
    }

    #[test]
    fn held_lease_shows_life() {
        let dir = tempfile::tempdir().unwrap();
        let leases = leases(dir.path());
        let lease = leases.take("key", vec!["00ff".into()], &|| {}).unwrap();
        let first = leases.read("key").unwrap();
        thread::sleep(BEAT + Duration::from_millis(500));
        assert_ne!(leases.read("key").unwrap(), first);
        assert!(lease.is_held().unwrap());
        assert_eq!(leases.holder("key").unwrap().unwrap().inputs, ["00ff"]);
    }

    #[test]
    fn lease_of_a_dead_process_is_taken_over_at_once() {
        let dir = tempfile::tempdir().unwrap();
        let leases = Leases { patience: Duration::from_secs(3600), ..leases(dir.path()) };
        let mut child = std::process::Command::new("true").spawn().unwrap();
        let mut dead = Holder::own(Vec::new());
        dead.pid = child.id();
        child.wait().unwrap();
        std::fs::write(leases.path("key"), format!("{:020}\n{}\n", 3, serde_json::to_string(&dead).unwrap())).unwrap();
        if cfg!(target_os = "linux") {
            assert!(leases.take("key", Vec::new(), &|| {}).unwrap().is_held().unwrap());
        }
    }
}
