//! A clock on which half a second passes in a millisecond, for what would wait long by the system's.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread::JoinHandle,
    time::Duration,
};

use pipe::support::clock::ManualClock;

/// Time passes for as long as this is there.
pub struct Hurry {
    pub clock: Arc<ManualClock>,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Hurry {
    pub fn new() -> Self {
        let (clock, stop) = (Arc::new(ManualClock::new()), Arc::new(AtomicBool::new(false)));
        let (hand, stopped) = (clock.clone(), stop.clone());
        let thread = std::thread::spawn(move || {
            while !stopped.load(Ordering::SeqCst) {
                hand.advance(Duration::from_millis(500));
                std::thread::sleep(Duration::from_millis(1));
            }
        });
        Self { clock, stop, thread: Some(thread) }
    }
}

impl Drop for Hurry {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::SeqCst);
        self.thread.take().map(JoinHandle::join);
    }
}
