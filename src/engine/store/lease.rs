//! Who may compute a key: the holder of its lease, for as long as the lease is kept alive.
//!
//! `leases/KEY` holds a number that the holder raises every [`BEAT`], and below it who the holder is. Whoever else wants
//! the key watches the file. If it has stayed the same for [`PATIENCE`], by the watcher's own steady clock, or if
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
    },
    thread::JoinHandle,
    time::{Duration, Instant},
};

use anyhow::{Context, Result};
use fs_err as fs;

use super::{aside, holder::Holder, short};
use crate::support::clock::{Clock, Signal, SystemClock};

/// How often a holder shows that it's alive.
const BEAT: Duration = Duration::from_secs(2);
/// How long a lease stays as it is before it counts as left behind.
const PATIENCE: Duration = Duration::from_secs(30);
/// The pause between two looks at somebody else's lease; the first are shorter.
const PAUSE: Duration = Duration::from_millis(200);

/// The leases of a store.
#[derive(Clone, Debug)]
pub(super) struct Leases {
    root: PathBuf,
    /// Set by whoever wants waiting to end.
    pub(super) stop: Arc<AtomicBool>,
    pub(super) clock: Arc<dyn Clock>,
}

/// Waits for a key's lease by looking at it again and again.
struct Watch<'a> {
    leases: &'a Leases,
    key: &'a str,
    holder: Holder,
    /// What was last seen there, and when it was first seen so.
    seen: Option<(Vec<u8>, Instant)>,
}

impl Watch<'_> {
    /// Takes the lease if it's free or left behind.
    fn look(&mut self) -> Result<Option<Lease>> {
        let text = self.leases.read(self.key)?;
        let is_free = match (&text, &self.seen) {
            (None, _) => true,
            (Some(text), _) if parse(text).is_some_and(|holder| holder.is_gone()) => true,
            (Some(text), Some((seen, since))) => text == seen && self.leases.since(*since) >= PATIENCE,
            (Some(_), None) => false,
        };
        if is_free && let Some(lease) = self.leases.replace(self.key, text.as_deref(), &self.holder)? {
            match &text {
                Some(_) => tracing::info!(key = short(self.key), "took over a lease whose holder shows no life"),
                None => tracing::debug!(key = short(self.key), "took the lease"),
            }
            return Ok(Some(lease));
        }
        if let Some(text) = text
            && self.seen.as_ref().is_none_or(|(seen, _)| *seen != text)
        {
            if self.seen.is_none() {
                let holder = parse(&text).unwrap_or_default();
                tracing::info!(key = short(self.key), host = %holder.host, pid = holder.pid, "waiting for a lease");
            }
            self.seen = Some((text, self.leases.clock.now()));
        }
        Ok(None)
    }
}

impl Leases {
    pub(super) fn new(root: &Path) -> Self {
        Self { root: root.to_owned(), stop: Arc::default(), clock: Arc::new(SystemClock) }
    }

    fn path(&self, key: &str) -> PathBuf {
        self.root.join("leases").join(key)
    }

    /// Waits until the key's lease is free or left behind, and takes it; `waiting` is called once before that.
    ///
    /// # Errors
    /// [`Stopped`] if it's told to stop; the file system's.
    pub(super) fn take(&self, key: &str, inputs: Vec<String>, waiting: &dyn Fn()) -> Result<Lease> {
        let mut watch = self.watch(key, inputs);
        let mut pause = Duration::from_millis(5);
        loop {
            let was_held = watch.seen.is_some();
            if let Some(lease) = watch.look()? {
                return Ok(lease);
            }
            if !was_held && watch.seen.is_some() {
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
        Watch { leases: self, key, holder: Holder::own(inputs), seen: None }
    }

    fn since(&self, then: Instant) -> Duration {
        self.clock.now().saturating_duration_since(then)
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
    beat: Option<(Signal, JoinHandle<()>)>,
}

impl Lease {
    fn new(leases: Leases, key: &str, token: String, file: File) -> Self {
        let stop = Signal::default();
        let lost = Arc::new(AtomicBool::new(false));
        let beating = Beating { leases: leases.clone(), key: key.to_owned(), token: token.clone(), file };
        let (tell, stopped) = (Arc::clone(&lost), stop.clone());
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
mod tests {
    use std::{
        sync::atomic::{AtomicUsize, Ordering},
        thread,
    };

    use super::*;
    use crate::support::clock::ManualClock;

    /// Leases by a clock that stands still until it's advanced.
    fn leases(dir: &Path) -> (Leases, Arc<ManualClock>) {
        std::fs::create_dir(dir.join("leases")).unwrap();
        std::fs::write(dir.join("format"), "2\n").unwrap();
        let clock = Arc::new(ManualClock::new());
        (Leases { clock: clock.clone(), ..Leases::new(dir) }, clock)
    }

    /// A lease as another machine left it, which has raised its number so often.
    fn foreign(leases: &Leases, key: &str, beats: usize) {
        let holder = r#"{"token":"0","host":"elsewhere","pid":1,"started":5,"space":"another","more":[1]}"#;
        std::fs::write(leases.path(key), format!("{beats:020}\n{holder}\n")).unwrap();
    }

    /// A clock on which nothing takes any time.
    #[derive(Debug)]
    struct NoTime(Instant);

    impl Clock for NoTime {
        fn now(&self) -> Instant {
            self.0
        }

        fn date(&self) -> std::time::SystemTime {
            std::time::SystemTime::UNIX_EPOCH
        }

        /// Heartbeats wait to be stopped, others look again at once.
        fn wait(&self, time: Duration, signal: &Signal) -> bool {
            match time < BEAT {
                true => thread::yield_now(),
                false => return SystemClock.wait(Duration::from_secs(3600), signal),
            }
            false
        }
    }

    #[test]
    fn a_lease_is_held_by_one_at_a_time_and_leaves_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let (leases, _) = leases(dir.path());
        let leases = Leases { clock: Arc::new(NoTime(Instant::now())), ..leases };
        let holders = AtomicUsize::new(0);
        thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| {
                    for _ in 0..10 {
                        let lease = leases.take("key", Vec::new(), &|| {}).unwrap();
                        assert_eq!(holders.fetch_add(1, Ordering::SeqCst), 0);
                        thread::yield_now();
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
        let (leases, clock) = leases(dir.path());
        foreign(&leases, "key", 7);
        let mut watches = [(); 4].map(|()| leases.watch("key", Vec::new()));
        let mut look = || watches.each_mut().map(|watch| watch.look().unwrap());
        assert!(look().iter().all(Option::is_none));
        clock.advance(PATIENCE - Duration::from_millis(1));
        assert!(look().iter().all(Option::is_none));
        clock.advance(Duration::from_millis(1));
        let mut taken: Vec<Lease> = look().into_iter().flatten().collect();
        assert_eq!(taken.len(), 1);
        let lease = taken.pop().unwrap();
        assert!(lease.is_held().unwrap());
        // The new holder shows life, so the others' patience begins anew with each of its beats.
        for _ in 0..2 * PATIENCE.as_secs() / BEAT.as_secs() {
            assert!(clock.is_waited_for_by(1));
            clock.advance(BEAT);
            assert!(clock.is_waited_for_by(1));
            assert!(look().iter().all(Option::is_none));
        }
        drop(lease);
        assert_eq!(look().iter().flatten().count(), 1);
    }

    #[test]
    fn lease_that_beats_is_not_taken_over() {
        let dir = tempfile::tempdir().unwrap();
        let (leases, clock) = leases(dir.path());
        foreign(&leases, "key", 0);
        let mut watch = leases.watch("key", Vec::new());
        for beats in 1..5 {
            assert!(watch.look().unwrap().is_none());
            clock.advance(PATIENCE - Duration::from_millis(1));
            assert!(watch.look().unwrap().is_none());
            foreign(&leases, "key", beats);
            clock.advance(Duration::from_millis(1));
        }
        std::fs::remove_file(leases.path("key")).unwrap();
        assert!(watch.look().unwrap().unwrap().is_held().unwrap());
    }

    #[test]
    fn waiting_looks_again_and_is_told_once() {
        let dir = tempfile::tempdir().unwrap();
        let (leases, clock) = leases(dir.path());
        foreign(&leases, "key", 7);
        let told = AtomicUsize::new(0);
        thread::scope(|scope| {
            let taken = scope.spawn(|| {
                let tell = || {
                    told.fetch_add(1, Ordering::SeqCst);
                };
                leases.take("key", Vec::new(), &tell).unwrap().is_held().unwrap()
            });
            for beats in 8..12 {
                assert!(clock.is_waited_for_by(1));
                assert!(!taken.is_finished());
                foreign(&leases, "key", beats);
                clock.advance(PAUSE);
            }
            assert!(clock.is_waited_for_by(1));
            std::fs::remove_file(leases.path("key")).unwrap();
            clock.advance(PAUSE);
            assert!(taken.join().unwrap());
        });
        assert_eq!(told.into_inner(), 1);
    }

    #[test]
    fn holder_that_lost_its_lease_knows_and_does_not_remove_the_new_one() {
        let dir = tempfile::tempdir().unwrap();
        let (leases, clock) = leases(dir.path());
        let lost = leases.take("key", Vec::new(), &|| {}).unwrap();
        let seen = leases.read("key").unwrap();
        let new = leases.replace("key", seen.as_deref(), &Holder::own(Vec::new())).unwrap().unwrap();
        assert!(!lost.is_held().unwrap() && new.is_held().unwrap());
        assert!(clock.is_waited_for_by(2));
        clock.advance(BEAT);
        assert!(clock.is_waited_for_by(2));
        assert!(lost.lost().load(Ordering::SeqCst) && !new.lost().load(Ordering::SeqCst));
        drop(lost);
        assert!(new.is_held().unwrap());
        drop(new);
        assert!(leases.holder("key").unwrap().is_none());
    }

    #[test]
    fn waiting_ends_when_it_is_told_to() {
        let dir = tempfile::tempdir().unwrap();
        let (leases, _) = leases(dir.path());
        foreign(&leases, "key", 7);
        let error = leases.take("key", Vec::new(), &|| leases.stop.store(true, Ordering::SeqCst)).unwrap_err();
        assert!(error.is::<Stopped>(), "{error:#}");
        assert!(leases.holder("key").unwrap().is_some());
    }

    #[test]
    fn held_lease_shows_life() {
        let dir = tempfile::tempdir().unwrap();
        let (leases, clock) = leases(dir.path());
        let lease = leases.take("key", vec!["00ff".into()], &|| {}).unwrap();
        for _ in 0..3 {
            let before = leases.read("key").unwrap();
            assert!(clock.is_waited_for_by(1));
            clock.advance(BEAT);
            assert!(clock.is_waited_for_by(1));
            assert_ne!(leases.read("key").unwrap(), before);
        }
        assert!(lease.is_held().unwrap());
        assert_eq!(leases.holder("key").unwrap().unwrap().inputs, ["00ff"]);
    }

    #[test]
    fn lease_of_a_dead_process_is_taken_over_at_once() {
        let dir = tempfile::tempdir().unwrap();
        let (leases, _) = leases(dir.path());
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
