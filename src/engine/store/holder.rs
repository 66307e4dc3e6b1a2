//! Who holds a lease, and whether that process still is.

use std::{
    hash::BuildHasher,
    path::Path,
    sync::{
        LazyLock,
        atomic::{AtomicU64, Ordering},
    },
};

use serde::{Deserialize, Serialize};

use crate::support::program;

/// A process that holds a lease. Fields that another version of the program has are left alone.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(default)]
pub(super) struct Holder {
    /// Different for every lease that was ever taken.
    pub(super) token: String,
    pub(super) host: String,
    pub(super) pid: u32,
    /// When the process began, in ticks of its machine: process numbers are used again.
    started: u64,
    /// The machine, its run, and the space of process numbers (a container has its own) that `pid` belongs to.
    space: String,
    /// The job of a cluster that the process is, as people name it there.
    #[serde(skip_serializing_if = "String::is_empty")]
    job: String,
    /// Digests of what the stage reads, so that they aren't cleared away under it.
    pub(super) inputs: Vec<String>,
}

static OWN: LazyLock<Holder> = LazyLock::new(|| Holder {
    token: String::new(),
    host: host(),
    pid: std::process::id(),
    started: started(std::process::id()).unwrap_or_default(),
    space: space().unwrap_or_default(),
    job: std::env::var(program::JOB).unwrap_or_default(),
    inputs: Vec::new(),
});

/// Stands for the space of process numbers in file names.
static PLACE: LazyLock<String> = LazyLock::new(|| blake3::hash(OWN.space.as_bytes()).to_hex()[..8].to_owned());

impl Holder {
    /// This process, with a new token.
    pub(super) fn own(inputs: Vec<String>) -> Self {
        Self { token: token(), inputs, ..OWN.clone() }
    }

    /// Whether the process certainly has ended. Of other machines nothing is known.
    pub(super) fn is_gone(&self) -> bool {
        let comparable = self.started > 0 && !self.space.is_empty() && self.space == OWN.space;
        comparable && started(self.pid) != Some(self.started)
    }
}

impl std::fmt::Display for Holder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "process {} on {}", self.pid, if self.host.is_empty() { "an unknown host" } else { &self.host })?;
        if self.job.is_empty() { Ok(()) } else { write!(f, ", job {}", self.job) }
    }
}

/// This process in a file's name: its number, when it began, and where that is so.
pub(super) fn mark() -> String {
    format!("{}.{}.{}", OWN.pid, OWN.started, *PLACE)
}

/// Whether the process of a [`mark`] certainly has ended; `None` of another machine's, and of what is no mark.
pub(super) fn is_gone(mark: &str) -> Option<bool> {
    let mut parts = mark.split('.');
    let (pid, began, place) = (parts.next()?.parse().ok()?, parts.next()?.parse::<u64>().ok()?, parts.next()?);
    let is_comparable = began > 0 && !OWN.space.is_empty() && place == *PLACE;
    is_comparable.then(|| started(pid) != Some(began))
}

/// The machine's name.
pub(crate) fn host() -> String {
    let read = |path: &str| std::fs::read_to_string(Path::new(path)).ok();
    let name = read("/proc/sys/kernel/hostname").or_else(|| std::env::var("HOSTNAME").ok());
    name.or_else(|| std::env::var("COMPUTERNAME").ok()).unwrap_or_default().trim().to_owned()
}

/// Sixteen digits that no other lease has; no clock is asked.
fn token() -> String {
    static COUNT: AtomicU64 = AtomicU64::new(0);
    // The standard library's hasher has random keys.
    let random = std::hash::RandomState::new();
    let hash = random.hash_one((std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed), &OWN.space));
    format!("{hash:016x}")
}

#[cfg(target_os = "linux")]
fn space() -> Option<String> {
    // Where the processes of other users are hidden, that one isn't seen doesn't mean that it isn't there.
    std::fs::read_to_string("/proc/1/stat").ok()?;
    let boot = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").ok()?;
    let space = std::fs::read_link("/proc/self/ns/pid").ok()?;
    Some(format!("{} {} {}", host(), boot.trim(), space.display()))
}

/// When a process began; `None` if there is none, or if it has ended and is only waited for.
#[cfg(target_os = "linux")]
fn started(pid: u32) -> Option<u64> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The second field is the program's name in parentheses, which may hold anything.
    let fields: Vec<&str> = stat.rsplit_once(')')?.1.split_whitespace().collect();
    match fields.first() {
        Some(&("Z" | "X")) => None,
        _ => fields.get(19)?.parse().ok(),
    }
}

#[cfg(not(target_os = "linux"))]
fn space() -> Option<String> {
    None
}

#[cfg(not(target_os = "linux"))]
fn started(_pid: u32) -> Option<u64> {
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_differ_and_this_process_is_there() {
        let (a, b) = (Holder::own(Vec::new()), Holder::own(Vec::new()));
        assert_ne!(a.token, b.token);
        assert!(!a.is_gone());
    }

    #[test]
    fn nothing_is_said_of_processes_elsewhere() {
        let elsewhere = Holder { pid: u32::MAX, started: 1, space: "another boot".into(), ..Holder::default() };
        assert!(!elsewhere.is_gone());
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn process_number_that_was_used_again_is_another_process() {
        let own = Holder::own(Vec::new());
        assert!(Holder { started: own.started - 1, ..own.clone() }.is_gone());
        let mut child = std::process::Command::new("true").spawn().unwrap();
        let dead = Holder { pid: child.id(), ..own };
        let began = std::time::Instant::now();
        // It's a zombie until it's waited for.
        while !dead.is_gone() && began.elapsed().as_secs() < 10 {
            std::thread::yield_now();
        }
        assert!(dead.is_gone());
        child.wait().unwrap();
    }
}
