//! Leases between threads and by a clock that the tests advance.

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
    clock.advance(leases.patience - Duration::from_millis(1));
    assert!(look().iter().all(Option::is_none));
    clock.advance(Duration::from_millis(1));
    let mut taken: Vec<Lease> = look().into_iter().flatten().collect();
    assert_eq!(taken.len(), 1);
    let lease = taken.pop().unwrap();
    assert!(lease.is_held().unwrap());
    // The new holder shows life, so the others' patience begins anew with each of its beats.
    for _ in 0..2 * leases.patience.as_secs() / BEAT.as_secs() {
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
        clock.advance(leases.patience - Duration::from_millis(1));
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
    let calls = AtomicUsize::new(0);
    thread::scope(|scope| {
        let taken = scope.spawn(|| {
            let waiting = || {
                calls.fetch_add(1, Ordering::SeqCst);
            };
            leases.take("key", Vec::new(), &waiting).unwrap().is_held().unwrap()
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
    assert_eq!(calls.into_inner(), 1);
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

#[test]
fn the_store_says_how_long_to_wait_for_a_sign_of_life() {
    let dir = tempfile::tempdir().unwrap();
    let (_, clock) = leases(dir.path());
    std::fs::write(dir.path().join("format"), "2\npatience 300\n").unwrap();
    let leases = Leases { clock: clock.clone(), ..Leases::new(dir.path()) };
    foreign(&leases, "key", 7);
    let mut watch = leases.watch("key", Vec::new());
    assert!(watch.look().unwrap().is_none());
    clock.advance(Duration::from_secs(299));
    assert!(watch.look().unwrap().is_none());
    clock.advance(Duration::from_secs(1));
    assert!(watch.look().unwrap().is_some());
}

#[test]
fn key_that_is_held_is_not_taken_without_waiting() {
    let dir = tempfile::tempdir().unwrap();
    let (leases, clock) = leases(dir.path());
    let none = LeftBehind::default();
    let held = leases.try_take("key", Vec::new(), &none).unwrap().unwrap();
    assert!(leases.try_take("key", Vec::new(), &none).unwrap().is_none());
    assert!(leases.key_watch("key").look().unwrap().is_none());
    drop(held);
    foreign(&leases, "key", 7);
    let mut watch = leases.key_watch("key");
    assert!(watch.look().unwrap().is_none());
    clock.advance(leases.patience);
    let left = watch.look().unwrap().expect("left behind");
    // Somebody else's beat comes in between.
    foreign(&leases, "key", 8);
    assert!(leases.try_take("key", Vec::new(), &left).unwrap().is_none());
    foreign(&leases, "key", 7);
    assert!(leases.try_take("key", Vec::new(), &left).unwrap().is_some());
}

#[test]
fn leases_change_hands_under_a_name_where_locks_of_files_do_not_hold() {
    let dir = tempfile::tempdir().unwrap();
    let (leases, _) = leases(dir.path());
    std::fs::write(dir.path().join("format"), "2\nlock link\n").unwrap();
    let leases = Leases { clock: Arc::new(NoTime(Instant::now())), ..leases };
    let holders = AtomicUsize::new(0);
    thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                for _ in 0..10 {
                    let lease = leases.take("key", Vec::new(), &|| {}).unwrap();
                    assert_eq!(holders.fetch_add(1, Ordering::SeqCst), 0);
                    assert!(dir.path().join("format.lock").exists() || lease.is_held().unwrap());
                    assert_eq!(holders.fetch_sub(1, Ordering::SeqCst), 1);
                }
            });
        }
    });
    let left: Vec<_> = std::fs::read_dir(dir.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(left.len(), 2, "{left:?}");
}
