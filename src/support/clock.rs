//! Time as something that is handed in: the system's, and one for tests that stands still until it's advanced.

use std::{
    fmt::Debug,
    sync::Arc,
    time::{Duration, Instant, SystemTime},
};

use parking_lot::{Condvar, Mutex};

/// What tells the time and waits for it to pass.
pub trait Clock: Debug + Send + Sync {
    /// A moment that never lies before an earlier one. Those of different clocks can't be compared.
    fn now(&self) -> Instant;

    /// The date, by which files are stamped.
    fn date(&self) -> SystemTime;

    /// Waits until so much time has passed or the signal is raised; gives whether it is.
    fn wait(&self, time: Duration, signal: &Signal) -> bool;

    /// Waits until so much time has passed.
    fn sleep(&self, time: Duration) {
        self.wait(time, &Signal::default());
    }
}

/// The system's clock.
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    fn now(&self) -> Instant {
        Instant::now()
    }

    fn date(&self) -> SystemTime {
        SystemTime::now()
    }

    fn wait(&self, time: Duration, signal: &Signal) -> bool {
        signal.wait_while(Some(time), &|| true)
    }
}

/// A flag that threads wait for; copies are the same flag.
#[derive(Clone, Debug, Default)]
pub struct Signal(Arc<(Mutex<bool>, Condvar)>);

impl Signal {
    /// Ends all waiting for it, now and later.
    pub fn raise(&self) {
        *self.0.0.lock() = true;
        self.0.1.notify_all();
    }

    /// Blocks while it isn't raised and `goes_on`, at most for `time`; gives whether it is raised.
    fn wait_while(&self, time: Option<Duration>, goes_on: &dyn Fn() -> bool) -> bool {
        let (flag, changed) = &*self.0;
        let mut raised = flag.lock();
        let mut waits = |raised: &mut bool| !*raised && goes_on();
        match time {
            Some(time) => drop(changed.wait_while_for(&mut raised, &mut waits, time)),
            None => changed.wait_while(&mut raised, &mut waits),
        }
        *raised
    }

    /// Has all that wait look again whether they go on.
    fn nudge(&self) {
        // Under the lock, so that nobody is between looking and waiting.
        let _raised = self.0.0.lock();
        self.0.1.notify_all();
    }
}

/// A clock for tests: it stands still but for [`ManualClock::advance`].
#[derive(Debug)]
pub struct ManualClock {
    began: (Instant, SystemTime),
    state: Mutex<Passed>,
    /// When somebody begins to wait.
    waits: Condvar,
}

#[derive(Debug, Default)]
struct Passed {
    time: Duration,
    /// Who waits, until when, for which signal.
    waiting: Vec<(u64, Duration, Signal)>,
    next: u64,
}

/// How long a test's threads may take to come to rest.
const REST: Duration = Duration::from_secs(60);

impl ManualClock {
    /// A clock that stands at the system's time.
    pub fn new() -> Self {
        Self { began: (Instant::now(), SystemTime::now()), state: Mutex::default(), waits: Condvar::new() }
    }

    /// Lets time pass, and wakes those for whom it's enough.
    pub fn advance(&self, time: Duration) {
        let signals: Vec<Signal> = {
            let mut state = self.state.lock();
            state.time += time;
            state.waiting.iter().map(|(_, _, signal)| signal.clone()).collect()
        };
        signals.iter().for_each(Signal::nudge);
    }

    /// Blocks until so many threads wait for a time that hasn't come, and so have done what they were woken for; `false`
    /// if that takes a minute.
    #[must_use]
    pub fn is_waited_for_by(&self, threads: usize) -> bool {
        let mut state = self.state.lock();
        let is_fewer =
            |state: &mut Passed| state.waiting.iter().filter(|(_, until, _)| *until > state.time).count() < threads;
        !self.waits.wait_while_for(&mut state, is_fewer, REST).timed_out()
    }
}

impl Default for ManualClock {
    fn default() -> Self {
        Self::new()
    }
}

impl Clock for ManualClock {
    fn now(&self) -> Instant {
        self.began.0 + self.state.lock().time
    }

    fn date(&self) -> SystemTime {
        self.began.1 + self.state.lock().time
    }

    fn wait(&self, time: Duration, signal: &Signal) -> bool {
        let (id, until) = {
            let mut state = self.state.lock();
            state.next += 1;
            let (id, until) = (state.next, state.time + time);
            state.waiting.push((id, until, signal.clone()));
            self.waits.notify_all();
            (id, until)
        };
        let raised = signal.wait_while(None, &|| self.state.lock().time < until);
        self.state.lock().waiting.retain(|(other, ..)| *other != id);
        raised
    }
}

/// The date and time of day in UTC, such as `2026-11-29 16:04:05`, of seconds since 1970.
pub fn date(unix: f64) -> String {
    let date = chrono::DateTime::from_timestamp(unix.max(0.0) as i64, 0).unwrap_or_default();
    date.format("%Y-%m-%d %H:%M:%S").to_string()
}

/// Seconds as a person reads them.
pub fn duration(seconds: f64) -> String {
    match seconds {
        s if s < 0.0995 => format!("{:.0} ms", s * 1e3),
        s if s < 99.95 => format!("{s:.1} s"),
        s => format!("{:.0} min {:02.0} s", (s / 60.0).floor(), (s % 60.0).floor()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_are_those_of_the_calendar() {
        // By Python's datetime.fromtimestamp(…, UTC).
        for (unix, expected) in [
            (0.0, "1970-01-01 00:00:00"),
            (951_782_400.0, "2000-02-29 00:00:00"),
            (1_709_251_199.9, "2024-02-29 23:59:59"),
            (4_107_542_400.0, "2100-03-01 00:00:00"),
        ] {
            assert_eq!(date(unix), expected);
        }
    }

    #[test]
    fn manual_clock_wakes_when_the_time_has_come_or_the_signal_is_raised() {
        let clock = ManualClock::new();
        let (began, date) = (clock.now(), clock.date());
        let signal = Signal::default();
        std::thread::scope(|scope| {
            let sleeper = scope.spawn(|| clock.sleep(Duration::from_secs(10)));
            let waiter = scope.spawn(|| clock.wait(Duration::from_secs(3600), &signal));
            assert!(clock.is_waited_for_by(2));
            clock.advance(Duration::from_secs(9));
            assert!(clock.is_waited_for_by(2) && !sleeper.is_finished());
            clock.advance(Duration::from_secs(1));
            sleeper.join().unwrap();
            signal.raise();
            assert!(waiter.join().unwrap());
        });
        assert_eq!(clock.now() - began, Duration::from_secs(10));
        assert_eq!(clock.date(), date + Duration::from_secs(10));
        // A raised signal stays raised.
        assert!(clock.wait(Duration::from_secs(1), &signal));
    }

    #[test]
    fn system_clock_waits_for_the_time_and_no_longer_than_for_the_signal() {
        let signal = Signal::default();
        assert!(!SystemClock.wait(Duration::from_millis(1), &signal));
        signal.raise();
        let began = SystemClock.now();
        assert!(SystemClock.wait(Duration::from_secs(3600), &signal));
        assert!(began.elapsed() < Duration::from_secs(60));
    }
}
