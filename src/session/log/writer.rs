//! Writing the file of a run.

use std::{
    collections::HashMap,
    io::Write,
    path::PathBuf,
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::{Context, Result};
use fs_err as fs;
use parking_lot::Mutex;

use super::event::{Begun, Line, StageEvent, What};
use crate::{
    engine::{
        executor::{Event, Reporter},
        store::Store,
    },
    session::Notify,
    support::clock::date,
};

/// How often progress of a stage is written.
const PROGRESS: Duration = Duration::from_secs(5);

/// Takes secrets out of a text.
pub type Scrub = Arc<dyn Fn(&str) -> String + Send + Sync>;

/// The file of a run that is going on. What can't be written is reported once, and holds nothing up.
pub struct RunLog {
    file: Mutex<Option<fs::File>>,
    /// When progress was last written, by stage.
    progress: Mutex<HashMap<String, Instant>>,
    scrub: Scrub,
    notify: Notify,
}

impl RunLog {
    /// Begins a run's file in a store.
    pub fn begin(store: &Store, begun: Begun, scrub: Scrub, notify: Notify) -> Self {
        let line = Line::now(What::Begun(begun));
        let file = create(store, &line).map(Some).unwrap_or_else(|error| {
            notify(&format!("warning: this run isn't logged: {error:#}"));
            None
        });
        let log = Self { file: Mutex::new(file), progress: Mutex::default(), scrub, notify };
        log.write(&line);
        log
    }

    /// Ends it: `done`, `failed`, `broken` or `interrupted`.
    pub fn end(&self, how: &str) {
        self.write(&Line::now(What::Ended { how: how.to_owned() }));
    }

    fn write(&self, line: &Line) {
        let mut file = self.file.lock();
        let Some(open) = &mut *file else { return };
        let written = serde_json::to_vec(line).map_err(std::io::Error::from).and_then(|mut text| {
            text.push(b'\n');
            // In one piece, so that a process that is killed leaves whole lines, but for the last one on a disk that is full.
            open.write_all(&text)
        });
        if let Err(error) = written {
            (self.notify)(&format!("warning: this run isn't logged any further: {error}"));
            *file = None;
        }
    }

    /// Whether progress of a stage is due to be written.
    fn is_due(&self, stage: &str) -> bool {
        let mut progress = self.progress.lock();
        let is_due = progress.get(stage).is_none_or(|last| last.elapsed() >= PROGRESS);
        if is_due {
            progress.insert(stage.to_owned(), Instant::now());
        }
        is_due
    }
}

impl Reporter for RunLog {
    fn event(&self, stage: &str, event: Event<'_>) {
        if matches!(event, Event::Progress { .. }) && !self.is_due(stage) {
            return;
        }
        if let Some(event) = StageEvent::of(event, &*self.scrub) {
            self.write(&Line::now(What::Stage { id: stage.to_owned(), event }));
        }
    }
}

/// A file that no other run has. Its name begins with the date, so that names are in the order of time.
fn create(store: &Store, first: &Line) -> Result<fs::File> {
    store.create()?;
    let folder = store.log();
    fs::create_dir_all(&folder)?;
    let digits = |text: String| text.chars().filter(char::is_ascii_digit).collect::<String>();
    let at = digits(date(first.at));
    let (day, time) = at.split_at_checked(8).context("a date has eight digits")?;
    for number in 0..1_000 {
        let other = if number > 0 { format!("-{number}") } else { String::new() };
        let path = folder.join(format!("{day}-{time}-{}-{}{other}.jsonl", host(first), std::process::id()));
        match fs::OpenOptions::new().append(true).create_new(true).open(PathBuf::from(&path)) {
            Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {}
            file => return Ok(file?),
        }
    }
    anyhow::bail!("too many runs in one second")
}

/// The machine's name as far as it can be a part of a file's.
fn host(first: &Line) -> String {
    let What::Begun(begun) = &first.what else { return String::new() };
    begun.host.chars().filter(|c| c.is_ascii_alphanumeric() || *c == '_').take(32).collect()
}
