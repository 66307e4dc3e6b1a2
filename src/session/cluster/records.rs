//! The files of a run on a cluster, `STORE/jobs/RUN/`:
//!
//! ```text
//! plan.json         what is to be computed; there before anything is submitted
//! batches/N.json    a batch of jobs: its name and its tasks; there before it's submitted
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
    path::{Path, PathBuf},
    sync::Arc,
};

use anyhow::{Context, Result, bail, ensure};
use fs_err as fs;
use serde::{Deserialize, Serialize, de::DeserializeOwned};

use super::run_plan::{FORMAT, RunPlan};
use crate::{
    engine::{
        remote::{Marks, Remote},
        store::{Store, atomic, unix_time},
    },
    session::launch::Message,
    support::{Hinted, clock::date},
};

/// A run's folder.
#[derive(Clone, Debug)]
pub struct RunFolder {
    path: PathBuf,
    /// What has the same files, where machines share no disk.
    remote: Option<Arc<Remote>>,
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
        for folder in ["batches", "events", "log"] {
            fs::create_dir_all(path.join(folder))?;
        }
        // Settings may hold what is nobody else's business.
        #[cfg(unix)]
        fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(0o700))?;
        let folder = Self { path, remote };
        folder.write("plan.json", &text)?;
        Ok(folder)
    }

    /// The folder at a path.
    pub fn at(path: &Path) -> Self {
        Self { path: path.to_owned(), remote: None }
    }

    /// The same, of which a remote has the files, too.
    #[must_use]
    pub fn shared_by(self, remote: Option<Arc<Remote>>) -> Self {
        Self { remote, ..self }
    }

    /// The remote that has the same files.
    pub fn remote(&self) -> Option<&Arc<Remote>> {
        self.remote.as_ref()
    }

    /// Brings a file that other machines have written, if there's one.
    ///
    /// # Errors
    /// If the remote can't be reached.
    pub fn bring_file(&self, name: &str) -> Result<()> {
        if let Some(remote) = &self.remote {
            remote.bring(&self.named(name))?;
        }
        Ok(())
    }

    /// Brings files of a folder that other machines have changed.
    ///
    /// # Errors
    /// If the remote can't be reached.
    pub fn bring(&self, name: &str, marks: &mut Marks) -> Result<()> {
        let Some(remote) = &self.remote else { return Ok(()) };
        remote.bring_changed(&self.named(name), marks)
    }

    /// Sends a file that isn't written by this itself, if it's there.
    ///
    /// # Errors
    /// If the remote doesn't take it.
    pub fn send(&self, name: &str) -> Result<()> {
        match &self.remote {
            Some(remote) if self.path.join(name).exists() => remote.send(&self.named(name)),
            _ => Ok(()),
        }
    }

    /// Brings the plan and a batch, for a machine that has nothing of the run.
    ///
    /// # Errors
    /// If they aren't there.
    pub fn bring_task(&self, batch: usize) -> Result<()> {
        let Some(remote) = &self.remote else { return Ok(()) };
        for name in ["plan.json".to_owned(), format!("batches/{batch}.json")] {
            ensure!(remote.bring(&self.named(&name))?, "{} has no {}", remote.url(), self.named(&name));
        }
        for folder in ["events", "log"] {
            fs::create_dir_all(self.path.join(folder))?;
        }
        Ok(())
    }

    /// A file's path in the store.
    fn named(&self, name: &str) -> String {
        format!("jobs/{}/{name}", self.name())
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
        let head: Head = parsed(&path, &text)?;
        if head.format != FORMAT {
            bail!("the run {} has format {}, and this version of pipe reads {FORMAT}", self.name(), head.format);
        }
        parsed(&path, &text)
    }

    /// Notes a batch before it's submitted, and gives its number.
    ///
    /// # Errors
    /// The file system's.
    pub fn add_batch(&self, batch: &BatchRecord, number: usize) -> Result<()> {
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

    /// The stages of a task.
    ///
    /// # Errors
    /// If there is no such task.
    pub fn stages_of(&self, batch: usize, task: usize) -> Result<Vec<usize>> {
        let batch: BatchRecord = self.read(&format!("batches/{batch}.json"))?;
        batch.tasks.get(&task).cloned().with_context(|| format!("{} has no task {task}", batch.name))
    }

    /// What a task prints.
    pub fn log(&self, batch: usize, task: usize) -> PathBuf {
        self.path.join(format!("log/{batch}-{task}.log"))
    }

    /// The file of events of a stage, to append to.
    ///
    /// # Errors
    /// The file system's.
    pub fn events(&self, stage: usize) -> Result<fs::File> {
        Ok(fs::File::options().create(true).append(true).open(self.path.join(format!("events/{stage}.jsonl")))?)
    }

    /// The events of a stage from a place in its file on, and the next place. What isn't the whole of a line yet is left.
    pub(in crate::session) fn events_from(&self, stage: usize, place: u64) -> (Vec<Message>, u64) {
        let text = read_from(&self.path.join(format!("events/{stage}.jsonl")), place).unwrap_or_default();
        let whole = text.iter().rposition(|byte| *byte == b'\n').map_or(0, |end| end + 1);
        let lines = text[..whole].split(|byte| *byte == b'\n');
        (lines.filter_map(|line| serde_json::from_slice(line).ok()).collect(), place + whole as u64)
    }

    /// What a task has printed from a place on; nothing while there is no such file.
    pub fn printed(&self, batch: usize, task: usize, place: u64) -> Vec<u8> {
        read_from(&self.log(batch, task), place).unwrap_or_default()
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
        self.write("cancelled", b"")
    }

    /// Whether it's to end.
    pub fn is_cancelled(&self) -> bool {
        self.path.join("cancelled").exists()
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
        self.send(name)
    }
}

/// A file from a place on.
fn read_from(path: &Path, place: u64) -> std::io::Result<Vec<u8>> {
    let mut file = std::fs::File::open(path)?;
    file.seek(SeekFrom::Start(place))?;
    let mut bytes = Vec::new();
    file.read_to_end(&mut bytes)?;
    Ok(bytes)
}

fn parsed<T: DeserializeOwned>(path: &Path, text: &[u8]) -> Result<T> {
    serde_json::from_slice(text).with_context(|| format!("{} isn't as it was written", path.display()))
}
