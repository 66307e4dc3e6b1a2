//! Garbage collection: unreferenced artifacts, and what dead processes left in `tmp/`.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::{Path, PathBuf},
    time::{Duration, SystemTime},
};

use anyhow::{Result, bail};
use fs_err as fs;

use super::{
    Artifact, Store,
    artifact::RECORD,
    atomic,
    check::is_digest,
    holder::Holder,
    manifest::{SHORT, short},
    workspace::{self, Workspace, remove, size},
};
use crate::support::Hinted;

/// An artifact, and whether it's kept.
#[derive(Clone, Debug)]
pub struct GcVerdict {
    /// Its key.
    pub key: String,
    /// Its kind and the stage that computed it; `None` if it's damaged.
    pub made: Option<(String, String)>,
    /// Size of its files.
    pub bytes: u64,
    /// Time since its last use; exact to an hour.
    pub unused: Duration,
    /// Why it's kept; `None` if it goes.
    pub kept: Option<String>,
}

/// Something in `tmp/` that no process works on, something that's kept for a while in `states/`, `rungs/` or `remote/`, or the
/// event files of an artifact that goes.
#[derive(Clone, Debug)]
pub struct Garbage {
    /// Where it lies.
    pub path: PathBuf,
    /// Its size.
    pub bytes: u64,
    /// What it is.
    pub kind: GarbageKind,
}

/// How long it's remembered what runs did, at least.
const LOGS_KEPT: Duration = Duration::from_secs(90 * 86_400);

/// What is left of computations beside their artifacts.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum GarbageKind {
    /// A state that training could resume from.
    State,
    /// What a process has left in the middle of its work.
    HalfWritten,
    /// The event files of a training.
    Events,
    /// What has come of files from a remote before the transfer was cut off.
    Transfer,
    /// What a run did, long ago.
    Log,
    /// What jobs of a cluster were given, long ago.
    Job,
}

/// What garbage collection would remove.
#[derive(Clone, Debug, Default)]
pub struct GcPlan {
    /// All artifacts, those that go first.
    pub artifacts: Vec<GcVerdict>,
    /// What goes from `tmp/`, `states/`, `rungs/`, `remote/`, `tensorboard/`, `log/`, `jobs/` and `inputs/`.
    pub garbage: Vec<Garbage>,
    /// Bytes that are freed. A file that several artifacts share counts when the last of them goes.
    pub freed: u64,
}

impl GcPlan {
    /// The artifacts that go.
    pub fn removable(&self) -> impl Iterator<Item = &GcVerdict> {
        self.artifacts.iter().filter(|artifact| artifact.kept.is_none())
    }
}

impl Store {
    /// Decides what can be removed. Kept are the artifacts in `wanted`, with the reason there, pinned ones, what any
    /// process works with, what was used within `grace`, and whatever a kept artifact was computed from.
    ///
    /// # Errors
    /// If the store can't be read.
    pub fn plan_gc(&self, wanted: &BTreeMap<String, String>, grace: Duration) -> Result<GcPlan> {
        let now = self.now()?;
        let mut reasons = wanted.clone();
        reasons.extend(self.pins()?.into_iter().map(|pin| (pin.key, format!("pinned as {}", pin.name))));
        let holders = self.holders()?;
        let working: BTreeSet<&String> = holders.values().flat_map(|holder| &holder.inputs).collect();

        let mut artifacts = BTreeMap::new();
        let mut verdicts = Vec::new();
        for key in self.keys()? {
            let dir = self.artifact_dir(&key);
            if !is_made_here(&self.root, &dir) {
                continue;
            }
            let artifact = Artifact::record(&dir).ok().flatten();
            let used = std::fs::metadata(&dir).and_then(|metadata| metadata.modified()).unwrap_or(now);
            let unused = now.duration_since(used).unwrap_or_default();
            let is_read = artifact.as_ref().is_some_and(|artifact| working.contains(&artifact.digest));
            let kept = match reasons.get(&key) {
                Some(reason) => Some(reason.clone()),
                None if holders.contains_key(&key) => Some("being computed".into()),
                None if is_read => Some("read by a stage that is running".into()),
                None if unused < grace => Some("used lately".into()),
                None => None,
            };
            let made = artifact.as_ref().map(|one| (one.manifest.kind.clone(), one.provenance.stage.clone()));
            verdicts.push(GcVerdict { key: key.clone(), made, bytes: size(&dir), unused, kept });
            artifacts.extend(artifact.map(|artifact| (key, artifact)));
        }
        keep_inputs(&mut verdicts, &artifacts);
        verdicts.sort_by(|a, b| (a.kept.is_some(), &a.key).cmp(&(b.kept.is_some(), &b.key)));

        let mut garbage = Vec::new();
        let entries = |folder: &str| {
            let folder = self.root.join(folder);
            if is_folder(&folder) { workspace::entries(&folder) } else { Ok(Vec::new()) }
        };
        // Which cells of a sweep were stopped is known as long as a recipe asks for it.
        let rungs = entries("rungs")?.into_iter().filter(|entry| !wanted.contains_key(&entry.key));
        for entry in entries("tmp")?.into_iter().chain(entries("states")?).chain(rungs) {
            let is_recent = entry.modified().is_none_or(|time| now.duration_since(time).unwrap_or_default() < grace);
            // A state is worth keeping for a while; the rest is of no use without its process.
            if holders.contains_key(&entry.key) || entry.is_state() && is_recent {
                continue;
            }
            let kind = if entry.is_state() { GarbageKind::State } else { GarbageKind::HalfWritten };
            garbage.push(Garbage { bytes: size(&entry.path), path: entry.path, kind });
        }
        for (path, key) in self.event_folders() {
            let of = |found: &String| found.starts_with(&key);
            let is_kept = verdicts.iter().any(|one| of(&one.key) && one.kept.is_some()) || holders.keys().any(of);
            if !is_kept && age(&path, now) >= grace {
                let bytes = events(&path).iter().map(|file| size(file)).sum();
                garbage.push(Garbage { bytes, path, kind: GarbageKind::Events });
            }
        }
        for (key, path) in self.left_by_transfers() {
            // The next transfer goes on from it, so that it's worth keeping for a while.
            let modified = workspace::modified(&path).unwrap_or(now);
            let is_held = key.is_some_and(|key| holders.contains_key(&key));
            if !is_held && now.duration_since(modified).unwrap_or_default() >= grace {
                garbage.push(Garbage { bytes: size(&path), path, kind: GarbageKind::Transfer });
            }
        }
        let old_logs = self.run_logs().into_iter().filter(|path| age(path, now) >= grace.max(LOGS_KEPT));
        garbage.extend(old_logs.map(|path| Garbage { bytes: size(&path), path, kind: GarbageKind::Log }));
        let old_jobs = self.given_to_jobs().into_iter().filter(|path| age(path, now) >= grace.max(LOGS_KEPT));
        garbage.extend(old_jobs.map(|path| Garbage { bytes: size(&path), path, kind: GarbageKind::Job }));
        garbage.sort_by(|a, b| a.path.cmp(&b.path));
        let going = verdicts.iter().filter(|one| one.kept.is_none()).map(|one| self.artifact_dir(&one.key));
        let freed = freed(going.chain(garbage.iter().map(|item| item.path.clone())));
        Ok(GcPlan { artifacts: verdicts, garbage, freed })
    }

    /// The folders of trainings' event files, `RECIPE/STAGE/KEY` below that of all, each with its key's beginning. Other
    /// programs may write there, too.
    fn event_folders(&self) -> Vec<(PathBuf, String)> {
        let root = self.tensorboard();
        if !is_folder(&root) {
            return Vec::new();
        }
        let folders = walkdir::WalkDir::new(root).min_depth(3).max_depth(3).into_iter().flatten();
        let folders = folders.filter(|entry| entry.file_type().is_dir()).map(|entry| {
            let name = entry.file_name().to_string_lossy().into_owned();
            (entry.into_path(), name)
        });
        let is_ours = |name: &str| name.len() == SHORT && name.bytes().all(|byte| byte.is_ascii_hexdigit());
        folders.filter(|(path, name)| is_ours(name) && !events(path).is_empty()).collect()
    }

    /// What runs on clusters have left for their jobs: folders of runs, copies of the program and of data.
    fn given_to_jobs(&self) -> Vec<PathBuf> {
        let folders = ["jobs", "jobs/program", "inputs"].map(|folder| self.root.join(folder));
        let entries = folders.iter().filter(|folder| is_folder(folder)).flat_map(std::fs::read_dir).flatten().flatten();
        entries.map(|entry| entry.path()).filter(|path| is_folder(path) && !folders.contains(path)).collect()
    }

    /// The files in which runs told what they did.
    fn run_logs(&self) -> Vec<PathBuf> {
        let folder = self.log();
        let entries = is_folder(&folder).then(|| std::fs::read_dir(folder)).into_iter().flatten().flatten().flatten();
        let is_log = |entry: &std::fs::DirEntry| {
            let is_file = entry.file_type().is_ok_and(|kind| kind.is_file());
            is_file && entry.path().extension().is_some_and(|extension| extension == "jsonl")
        };
        entries.filter(is_log).map(|entry| entry.path()).collect()
    }

    /// Removes what a plan lists, except artifacts that were used since.
    ///
    /// # Errors
    /// If something can't be removed; the rest is as it was.
    pub fn collect_garbage(&self, plan: &GcPlan) -> Result<()> {
        let clear = || -> Result<()> {
            for verdict in plan.removable() {
                let dir = self.artifact_dir(&verdict.key);
                let used = std::fs::metadata(&dir).and_then(|metadata| metadata.modified()).ok();
                let is_used = used.is_some_and(|used| {
                    self.now().is_ok_and(|now| now.duration_since(used).unwrap_or_default() < verdict.unused)
                });
                if !is_used && !self.is_read(&verdict.key)? {
                    self.discard(&verdict.key)?;
                }
            }
            for item in &plan.garbage {
                if item.kind != GarbageKind::Events {
                    remove(&item.path)?;
                    continue;
                }
                events(&item.path).iter().try_for_each(|file| remove(file))?;
                // What others have put there keeps it.
                let _ = std::fs::remove_dir(&item.path);
            }
            Ok(())
        };
        clear().map_err(|error| self.explain(error))?;
        let files = walkdir::WalkDir::new(self.root.join("artifacts")).into_iter().flatten();
        let known: BTreeSet<_> = files.filter_map(|entry| identity(&entry.metadata().ok()?)).collect();
        self.integrity.retain(&|name| known.contains(name));
        Ok(())
    }

    /// Whether a stage that's running reads an artifact. One that begins just now looks for it itself, and has it computed
    /// again.
    fn is_read(&self, key: &str) -> Result<bool> {
        let Some(artifact) = Artifact::record(&self.artifact_dir(key)).ok().flatten() else { return Ok(false) };
        Ok(self.holders()?.values().any(|holder| holder.inputs.contains(&artifact.digest)))
    }

    /// Removes an artifact, damaged or not.
    ///
    /// # Errors
    /// If it's pinned or being computed, or can't be removed.
    pub fn remove(&self, key: &str) -> Result<()> {
        if let Some(pin) = self.pins()?.into_iter().find(|pin| pin.key == key) {
            bail!(Hinted::with(
                format!("{} is pinned as {}", short(key), pin.name),
                format!("pipe unpin {}", pin.name)
            ));
        }
        self.discard(key).map_err(|error| self.explain(error))
    }

    /// Takes an artifact out of sight at once, and then removes it.
    fn discard(&self, key: &str) -> Result<()> {
        super::format::create(&self.root)?;
        let aside = Workspace::gone(&self.root.join("tmp"), key, &Holder::own(Vec::new()).token);
        {
            let _guard = self.leases.guard()?;
            if let Some(holder) = self.leases.holder(key)?.filter(|holder| !holder.is_gone()) {
                bail!("{} is being computed by {holder}", short(key));
            }
            let dir = self.artifact_dir(key);
            if !dir.exists() {
                return Ok(());
            }
            fs::rename(dir, &aside)?;
        }
        remove(&aside)
    }

    /// The live holders, by key. Of processes on other machines it's not known whether they are; they count.
    fn holders(&self) -> Result<BTreeMap<String, Holder>> {
        let dir = self.root.join("leases");
        let mut holders = BTreeMap::new();
        if dir.exists() {
            for entry in fs::read_dir(dir)? {
                let Some(key) = entry?.file_name().into_string().ok().filter(|name| is_digest(name)) else { continue };
                if let Some(holder) = self.leases.holder(&key)?.filter(|holder| !holder.is_gone()) {
                    holders.insert(key, holder);
                }
            }
        }
        Ok(holders)
    }

    /// The time by the clock that stamps the store's files, which may be another machine's.
    fn now(&self) -> Result<SystemTime> {
        let stamped = atomic::create(&self.root).and_then(|file| file.as_file().metadata()?.modified());
        Ok(stamped.unwrap_or_else(|_| SystemTime::now()))
    }
}

/// Keeps what kept artifacts were computed from: those whose output is among their inputs.
fn keep_inputs(verdicts: &mut [GcVerdict], artifacts: &BTreeMap<String, Artifact>) {
    loop {
        let mut needed = BTreeMap::new();
        for one in verdicts.iter().filter(|one| one.kept.is_some()) {
            for digest in artifacts.get(&one.key).into_iter().flat_map(|artifact| artifact.manifest.inputs.values()) {
                needed.insert(digest.clone(), one.key.clone());
            }
        }
        let mut found = false;
        for one in verdicts.iter_mut().filter(|one| one.kept.is_none()) {
            let reader = artifacts.get(&one.key).and_then(|artifact| needed.get(&artifact.digest));
            if let Some(reader) = reader {
                one.kept = Some(format!("read by {}", short(reader)));
                found = true;
            }
        }
        if !found {
            return;
        }
    }
}

/// How long ago something was put into a folder.
fn age(path: &Path, now: SystemTime) -> Duration {
    let modified = std::fs::metadata(path).and_then(|metadata| metadata.modified()).unwrap_or(now);
    now.duration_since(modified).unwrap_or_default()
}

/// Whether there is a folder itself and not a link to one, which leads to what may be another program's.
pub(super) fn is_folder(path: &Path) -> bool {
    path.symlink_metadata().is_ok_and(|metadata| metadata.is_dir())
}

/// Whether an artifact was made in this store, damaged as it may be: a folder with a record, not reached through a link.
fn is_made_here(root: &Path, dir: &Path) -> bool {
    is_folder(&root.join("artifacts")) && is_folder(dir) && dir.join(RECORD).symlink_metadata().is_ok()
}

/// TensorBoard's event files in a folder.
fn events(dir: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(dir).into_iter().flatten().flatten();
    let is_event = |entry: &std::fs::DirEntry| {
        let is_file = entry.file_type().is_ok_and(|kind| kind.is_file());
        is_file && entry.file_name().as_encoded_bytes().starts_with(b"events.out.tfevents.")
    };
    entries.filter(is_event).map(|entry| entry.path()).collect()
}

fn identity(metadata: &std::fs::Metadata) -> Option<String> {
    super::digest_table::Stamp::of(metadata).identity()
}

/// Number of a file's names.
#[cfg(unix)]
fn links(metadata: &std::fs::Metadata) -> u64 {
    std::os::unix::fs::MetadataExt::nlink(metadata)
}
#[cfg(not(unix))]
fn links(_metadata: &std::fs::Metadata) -> u64 {
    1
}

/// The bytes that go with these directories: of files all of whose names do.
fn freed(paths: impl Iterator<Item = PathBuf>) -> u64 {
    let mut shared: BTreeMap<String, u64> = BTreeMap::new();
    let mut freed = 0;
    for path in paths {
        for entry in walkdir::WalkDir::new(path).into_iter().flatten() {
            let Some(metadata) = entry.metadata().ok().filter(std::fs::Metadata::is_file) else { continue };
            let seen = match identity(&metadata).filter(|_| links(&metadata) > 1) {
                Some(name) => {
                    let seen = shared.entry(name).or_default();
                    *seen += 1;
                    *seen
                }
                None => 1,
            };
            if seen == links(&metadata) {
                freed += metadata.len();
            }
        }
    }
    freed
}
