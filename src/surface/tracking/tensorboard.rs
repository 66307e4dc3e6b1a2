//! TensorBoard: an event file for each training, at `DIR/RECIPE/STAGE/KEY`, written while it runs.
//!
//! A resumed training writes a new file, from its first step, in place of the old one. What
//! comes out of the store, or was computed without this, gets its file from the stored curve.

use std::{
    collections::HashMap,
    io::{Read, Seek, SeekFrom, Write},
    path::{Path, PathBuf},
    sync::atomic::{AtomicBool, AtomicU64, Ordering},
};

use anyhow::Result;
use fs_err::{self as fs, File};
use parking_lot::{Mutex, MutexGuard};

use super::{
    events,
    subject::{Curves, Notify},
};
use crate::{
    engine::{
        executor::Event,
        plan::Node,
        store::{Artifact, host, short, unix_time},
    },
    stages::facts_of,
};

/// What event files are called in the beginning; readers go by that.
const PREFIX: &str = "events.out.tfevents.";

/// The event files of a recipe's trainings.
pub(super) struct TensorBoard {
    dir: PathBuf,
    /// Whether files of finished trainings are wanted too.
    is_wanted: bool,
    /// The files of running trainings, by stage.
    open: Mutex<HashMap<String, File>>,
    notify: Notify,
    failed: AtomicBool,
}

impl TensorBoard {
    /// Files below `dir`, which is made when there is something to write. Unless `is_wanted`, nothing is fetched from a
    /// remote for them, and nothing reported where those of finished trainings can't be written, as in a read-only
    /// store.
    pub(super) fn new(dir: PathBuf, is_wanted: bool, notify: Notify) -> Self {
        Self { dir, is_wanted, open: Mutex::default(), notify, failed: AtomicBool::new(false) }
    }

    /// Writes an event of a training; `curves` has those of stored ones. A failure to write is reported
    /// once, and otherwise ignored.
    pub(super) fn event(&self, stage: &str, event: Event<'_>, curves: &Curves) {
        let written = match event {
            Event::Started { node, key } => self.begin(stage, node, key),
            Event::Metrics(metrics) => self.append(stage, &events::scalars(metrics)),
            Event::Finished { .. } => {
                let written = self.append(stage, &events::end(unix_time()));
                self.close(stage);
                written
            }
            Event::Hit { node, artifact } => {
                self.close(stage);
                self.complete(node, artifact, curves).or_else(|error| if self.is_wanted { Err(error) } else { Ok(()) })
            }
            // None of its files is used elsewhere.
            Event::InRemote { node, artifact } if self.is_wanted => self.complete(node, artifact, curves),
            Event::Paused { .. } | Event::Failed { .. } => {
                self.close(stage);
                Ok(())
            }
            _ => Ok(()),
        };
        if let Err(error) = written
            && !self.failed.swap(true, Ordering::Relaxed)
        {
            (self.notify)(&format!("warning: files for TensorBoard can't be written: {error:#}"));
        }
    }

    fn place(&self, node: &Node, key: &str) -> PathBuf {
        self.dir.join(&node.name).join(short(key))
    }

    fn begin(&self, stage: &str, node: &Node, key: &str) -> Result<()> {
        if !is_training(node) {
            return Ok(());
        }
        let dir = self.place(node, key);
        clear(&dir)?;
        let mut file = create(&dir)?;
        file.write_all(&events::head(unix_time()))?;
        self.open().insert(stage.to_owned(), file);
        Ok(())
    }

    fn append(&self, stage: &str, bytes: &[u8]) -> Result<()> {
        let mut open = self.open();
        let Some(file) = open.get_mut(stage) else { return Ok(()) };
        // Nothing is kept back, so that the file has what has happened; and nothing comes behind half a frame.
        Ok(file.write_all(bytes).inspect_err(|_| drop(open.remove(stage)))?)
    }

    fn close(&self, stage: &str) {
        self.open().remove(stage);
    }

    /// Writes the file of a finished training, unless it's there.
    fn complete(&self, node: &Node, artifact: &Artifact, curves: &Curves) -> Result<()> {
        let dir = self.place(node, &artifact.key);
        if !is_training(node) || event_files(&dir)?.iter().any(|file| is_ended(file).unwrap_or(false)) {
            return Ok(());
        }
        let metrics = curves.of(artifact);
        if metrics.is_empty() {
            return Ok(());
        }
        clear(&dir)?;
        let made = &artifact.provenance;
        let (began, ended) = (events::head(made.started), events::end(made.started + made.seconds));
        Ok(create(&dir)?.write_all(&[began, events::scalars(&metrics), ended].concat())?)
    }

    fn open(&self) -> MutexGuard<'_, HashMap<String, File>> {
        self.open.lock()
    }
}

/// Whether a stage trains something, and so has a curve.
fn is_training(node: &Node) -> bool {
    facts_of(node).is_ok_and(|facts| facts.training.is_some())
}

/// A new event file, with a name that no other has.
fn create(dir: &Path) -> Result<File> {
    static COUNT: AtomicU64 = AtomicU64::new(0);
    fs::create_dir_all(dir)?;
    let (count, process) = (COUNT.fetch_add(1, Ordering::Relaxed), std::process::id());
    let name = format!("{PREFIX}{:010}.{}.{process}.{count}", unix_time() as u64, host());
    Ok(File::options().create_new(true).append(true).open(dir.join(name))?)
}

fn event_files(dir: &Path) -> Result<Vec<PathBuf>> {
    if !dir.exists() {
        return Ok(Vec::new());
    }
    let files = fs::read_dir(dir)?.map(|entry| Ok(entry?.path()));
    let files = files.collect::<Result<Vec<_>>>()?;
    let is_ours = |path: &PathBuf| path.file_name().is_some_and(|name| name.to_string_lossy().starts_with(PREFIX));
    Ok(files.into_iter().filter(is_ours).collect())
}

/// Removes the event files of other attempts at the same training.
fn clear(dir: &Path) -> Result<()> {
    event_files(dir)?.into_iter().try_for_each(|file| Ok(fs::remove_file(file)?))
}

fn is_ended(path: &Path) -> Result<bool> {
    let mut file = File::open(path)?;
    let length = file.metadata()?.len();
    file.seek(SeekFrom::Start(length.saturating_sub(events::ending())))?;
    let mut last = Vec::new();
    file.read_to_end(&mut last)?;
    Ok(events::is_ended(&last))
}
