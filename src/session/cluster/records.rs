//! The files of a run on a cluster, `STORE/jobs/RUN/`:
//!
//! ```text
//! plan.json         what is to be computed; there before anything is submitted
//! batches/N.json    a batch of jobs: its name and its tasks; there before it's submitted
//! batches/N.parts   what each of its tasks needs of the plan
//! batches/N.id      what the engine calls it, once it's submitted
//! events/K.jsonl    what happens to stage K, in the lines that a stage's process reports by; its job writes them
//! log/N-T.log       what the job of task T of batch N prints
//! cancelled         there when the run is to end
//! ```
//!
//! Machines that have a remote in common alone have a folder each, and send each other what they write.
//!
//! Whether a stage is done isn't among them: its artifact is in the store then. Only who runs `pipe … --on` or `pipe attach`
//! writes batches, one at a time: `following` is locked meanwhile by a lease's rules.

use std::{
    collections::BTreeMap,
    io::{Read, Seek, SeekFrom},
    ops::Range,
    path::{Path, PathBuf},
    sync::Arc,
};

use anyhow::{Context, Result, bail, ensure};
use fs_err as fs;
use serde::{Deserialize, Serialize, de::DeserializeOwned};

use super::{
    parts::{self, Part},
    run_plan::{FORMAT, RunPlan},
};
use crate::{
    engine::{
        remote::Remote,
        store::{Store, atomic, unix_time},
    },
    session::launch::Message,
    support::{Hinted, clock::date},
};

/// The name of the file that is there when the run is to end.
pub(super) const CANCELLED: &str = "cancelled";

/// A run's folder.
#[derive(Clone, Debug)]
pub struct RunFolder {
    pub(super) path: PathBuf,
    /// What has the same files, where machines share no disk.
    pub(super) remote: Option<Arc<Remote>>,
}

/// A batch of jobs that are alike, which an engine is given at once.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct BatchRecord {
    /// Its name, which no other has.
    pub name: String,
    /// By the number of the task, the stages that it computes, one after the other.
    pub tasks: BTreeMap<usize, Vec<usize>>,
    /// By what factor its time limit is longer than was asked for.
    pub longer: u32,
    /// When it was made, in seconds since 1970.
    pub at: f64,
}

impl RunFolder {
    /// Makes the folder of a run, with its plan.
    ///
    /// # Errors
    /// The file system's.
    pub fn create(store: &Store, remote: Option<Arc<Remote>>, plan: &RunPlan) -> Result<Self> {
        let stamp: String = date(unix_time()).chars().filter(char::is_ascii_digit).collect();
        let text = serde_json::to_vec(plan)?;
        let unique = blake3::hash(format!("{} {} {stamp}", plan.host, std::process::id()).as_bytes()).to_hex();
        let path = store.root().join("jobs").join(format!("{stamp}-{}", &unique[..6]));
        let folder = Self { path, remote };
        folder.make()?;
        atomic::write(&folder.path.join("plan.json"), &text)?;
        folder.send("plan.json")?;
        Ok(folder)
    }

    /// Makes the folder where it isn't there, as on machines that share no disk.
    ///
    /// # Errors
    /// The file system's.
    pub(super) fn make(&self) -> Result<()> {
        for folder in ["batches", "events", "log"] {
            fs::create_dir_all(self.path.join(folder))?;
        }
        self.close()
    }

    /// Closes it to others: settings may hold what is nobody else's business.
    pub(super) fn close(&self) -> Result<()> {
        #[cfg(unix)]
        fs::set_permissions(&self.path, std::os::unix::fs::PermissionsExt::from_mode(0o700))?;
        Ok(())
    }

    /// The folder at a path.
    pub fn at(path: &Path) -> Self {
        Self { path: path.to_owned(), remote: None }
    }

    /// All runs of a store, the last one first.
    ///
    /// # Errors
    /// If the folder can't be read.
    pub fn all(store: &Store) -> Result<Vec<Self>> {
        let entries = match std::fs::read_dir(store.root().join("jobs")) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
            entries => entries?,
        };
        let mut folders: Vec<Self> = entries.flatten().map(|entry| Self::at(&entry.path())).collect();
        folders.retain(|folder| folder.path.join("plan.json").exists());
        folders.sort_by(|a, b| b.path.cmp(&a.path));
        Ok(folders)
    }

    /// The run whose name begins so; the last one if no name is given.
    ///
    /// # Errors
    /// If there is none, or more than one.
    pub fn find(store: &Store, name: Option<&str>) -> Result<Self> {
        let all = Self::all(store)?;
        let found: Vec<&Self> = all.iter().filter(|run| name.is_none_or(|name| run.name().starts_with(name))).collect();
        match (found.as_slice(), name) {
            ([], None) => {
                bail!(Hinted::with("no run of this store is on a cluster", "`pipe run RECIPE --on PROFILE` begins one"))
            }
            ([], Some(name)) => bail!("no run's name begins with `{name}`; `pipe status` lists them"),
            ([one, ..], None) | ([one], _) => Ok((*one).clone()),
            ([_, ..], Some(name)) => bail!("the names of {} runs begin with `{name}`; give more of it", found.len()),
        }
    }

    /// Its name.
    pub fn name(&self) -> String {
        self.path.file_name().unwrap_or_default().to_string_lossy().into_owned()
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The directory of the store that it's in.
    ///
    /// # Errors
    /// If it's in none.
    pub fn store(&self) -> Result<&Path> {
        let jobs = self.path.parent().filter(|parent| parent.ends_with("jobs"));
        jobs.and_then(Path::parent).with_context(|| format!("{} is not a run's folder in a store", self.path.display()))
    }

    /// The plan.
    ///
    /// # Errors
    /// If it can't be read, or another version has written it.
    pub fn plan(&self) -> Result<RunPlan> {
        #[derive(Deserialize)]
        struct Head {
            format: u32,
        }
        let (path, text) = self.text("plan.json")?;
        self.ensure_known(parsed::<Head>(&path, &text)?.format)?;
        parsed(&path, &text)
    }

    fn ensure_known(&self, format: u32) -> Result<()> {
        ensure!(
            format == FORMAT,
            "the run {} has format {format}, and this version of pipe reads {FORMAT}",
            self.name()
        );
        Ok(())
    }

    /// Notes a batch before it's submitted; `needs` are those that each stage of the plan needs.
    ///
    /// # Errors
    /// The file system's.
    pub(super) fn add_batch(
        &self,
        batch: &BatchRecord,
        number: usize,
        plan: &RunPlan,
        needs: &[Vec<usize>],
    ) -> Result<()> {
        let part =
            |(task, stages): (&usize, &Vec<usize>)| Ok((*task, serde_json::to_vec(&Part::new(plan, needs, stages))?));
        let parts = batch.tasks.iter().map(part).collect::<Result<_>>()?;
        self.write(&parts_of(number), &parts::file(&parts))?;
        self.write(&format!("batches/{number}.json"), &serde_json::to_vec(batch)?)
    }

    /// Notes what the engine calls a batch.
    ///
    /// # Errors
    /// The file system's.
    pub fn name_batch(&self, number: usize, id: &str) -> Result<()> {
        self.write(&format!("batches/{number}.id"), id.as_bytes())
    }

    /// The batches, each with what the engine calls it, if that is known.
    ///
    /// # Errors
    /// If one can't be read.
    pub fn batches(&self) -> Result<Vec<(BatchRecord, Option<String>)>> {
        let mut batches = Vec::new();
        for number in 0.. {
            let name = format!("batches/{number}.json");
            if !self.path.join(&name).exists() {
                break;
            }
            let id = std::fs::read_to_string(self.path.join(format!("batches/{number}.id"))).ok();
            batches.push((self.read(&name)?, id));
        }
        Ok(batches)
    }

    /// What a task needs of the plan.
    ///
    /// # Errors
    /// If there is no such task.
    pub(super) fn part(&self, batch: usize, task: usize) -> Result<Part> {
        let name = parts_of(batch);
        let path = self.path.join(&name);
        if self.remote.is_none() && !path.exists() {
            // A version has submitted it that parted no plans.
            let record: BatchRecord = self.read(&format!("batches/{batch}.json"))?;
            let own = record.tasks.get(&task).with_context(|| format!("{} has no task {task}", record.name))?;
            let plan = self.plan()?;
            return Ok(Part::new(&plan, &plan.all_needs(), own));
        }
        let bytes = |range: Range<u64>| match &self.remote {
            Some(remote) => remote.bytes_of(&self.named(&name), range),
            None => Ok(read_from(&path, range.start, range.end - range.start)?),
        };
        let found = parts::find(task, &bytes).with_context(|| format!("can't read {}", path.display()))?;
        let part: Part = parsed(&path, &found)?;
        self.ensure_known(part.plan.format)?;
        Ok(part)
    }

    /// Where in a run's folder is what a task prints,
    pub fn log_name(batch: usize, task: usize) -> String {
        format!("log/{batch}-{task}.log")
    }

    /// and where a stage's events are.
    pub fn events_name(stage: usize) -> String {
        format!("events/{stage}.jsonl")
    }

    /// What a task prints.
    pub fn log(&self, batch: usize, task: usize) -> PathBuf {
        self.path.join(Self::log_name(batch, task))
    }

    /// The file of events of a stage, to append to.
    ///
    /// # Errors
    /// The file system's.
    pub fn events(&self, stage: usize) -> Result<fs::File> {
        Ok(fs::File::options().create(true).append(true).open(self.path.join(Self::events_name(stage)))?)
    }

    /// The events of a stage from a place in its file on, and the next place. What isn't the whole of a line yet is left.
    pub(in crate::session) fn events_from(&self, stage: usize, place: u64) -> (Vec<Message>, u64) {
        let text = read_from(&self.path.join(Self::events_name(stage)), place, u64::MAX).unwrap_or_default();
        let whole = text.iter().rposition(|byte| *byte == b'\n').map_or(0, |end| end + 1);
        let lines = text[..whole].split(|byte| *byte == b'\n');
        (lines.filter_map(|line| serde_json::from_slice(line).ok()).collect(), place + whole as u64)
    }

    /// What a task has printed from a place on; nothing while there is no such file.
    pub fn printed(&self, batch: usize, task: usize, place: u64) -> Vec<u8> {
        read_from(&self.log(batch, task), place, u64::MAX).unwrap_or_default()
    }

    /// Whether the job of a stage has told its end.
    pub fn has_ended(&self, stage: usize) -> bool {
        matches!(self.events_from(stage, 0).0.last(), Some(Message::End(_)))
    }

    /// Asks all that follow the run to end it.
    ///
    /// # Errors
    /// The file system's.
    pub fn cancel(&self) -> Result<()> {
        self.write(CANCELLED, b"")
    }

    /// Whether it's to end.
    pub fn is_cancelled(&self) -> bool {
        self.path.join(CANCELLED).exists()
    }

    fn read<T: DeserializeOwned>(&self, name: &str) -> Result<T> {
        let (path, text) = self.text(name)?;
        parsed(&path, &text)
    }

    fn text(&self, name: &str) -> Result<(PathBuf, Vec<u8>)> {
        let path = self.path.join(name);
        let text = fs::read(&path)?;
        Ok((path, text))
    }

    fn write(&self, name: &str, bytes: &[u8]) -> Result<()> {
        atomic::write(&self.path.join(name), bytes)?;
        self.deliver(name)
    }
}

/// The name of the file with the parts of a batch's tasks.
fn parts_of(batch: usize) -> String {
    format!("batches/{batch}.parts")
}

/// So many bytes of a file from a place on, as far as they're there.
fn read_from(path: &Path, place: u64, length: u64) -> std::io::Result<Vec<u8>> {
    let mut file = std::fs::File::open(path)?;
    file.seek(SeekFrom::Start(place))?;
    let mut bytes = Vec::new();
    file.take(length).read_to_end(&mut bytes)?;
    Ok(bytes)
}

fn parsed<T: DeserializeOwned>(path: &Path, text: &[u8]) -> Result<T> {
    serde_json::from_slice(text).with_context(|| format!("{} isn't as it was written", path.display()))
}
