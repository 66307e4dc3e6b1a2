//! The run itself: a plan is taken stage by stage, and what is missing is launched.

use std::{
    collections::{BTreeMap, BTreeSet},
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::SeqCst},
    },
    time::Instant,
};

use anyhow::{Context, Result, anyhow, bail, ensure};
use indexmap::IndexMap;
use parking_lot::Mutex;

use super::{
    Busy, Done, Ending, Event, IfHeld, InputLost, Launch, Outcome, Paused, Reporter, Task, Watch,
    queue::{Next, Queue, Turn},
};
use crate::{
    engine::{
        plan::{Key, Node, Plan, Planned, Resolver, Seen, Status},
        store::{Artifact, KeyWatch, Lost, Manifest, Metrics, Provenance, Stopped, short},
    },
    support::{Hinted, explained, panics},
};

/// How to run.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// Stages that run at the same time; at least 1.
    pub jobs: usize,
    /// By id, where a stage is to pause, its state kept, for another run to resume: at one in so many of its steps. What it
    /// has measured by then is in the store's [`rung`](crate::engine::store::Store::rung).
    pub until: BTreeMap<String, usize>,
    /// Stop flag: what is running pauses as soon as it can be resumed, nothing else begins.
    pub stop: Arc<AtomicBool>,
    /// Recorded with every artifact that is made: recipe, overrides, host.
    pub provenance: Provenance,
}

/// Executes a plan, and returns the outcome of each of its stages. A failure ends the stages that depend on it and no
/// others. `resolver` looks up those whose keys depend on what runs here; the remote that it asks is given what is computed.
pub fn execute(
    plan: Plan,
    resolver: &Resolver<'_>,
    launcher: &dyn Launch,
    reporter: &dyn Reporter,
    options: &Options,
) -> IndexMap<String, Outcome> {
    let stages = plan.into_stages();
    let queue = Queue::new(&stages, &options.stop);
    let threads = options.jobs.clamp(1, stages.len().max(1));
    let (launched, watches) = (AtomicBool::new(false), Mutex::default());
    let waiting = Mutex::default();
    let worker = Worker { queue: &queue, resolver, launcher, reporter, options, launched, watches, waiting };
    if threads == 1 {
        worker.work();
    } else {
        std::thread::scope(|scope| {
            for _ in 0..threads {
                scope.spawn(|| worker.work());
            }
        });
    }
    worker.look_again();
    resolver.digests().lock().save();
    queue.into_outcomes()
}

struct Worker<'a> {
    queue: &'a Queue<'a>,
    resolver: &'a Resolver<'a>,
    launcher: &'a dyn Launch,
    reporter: &'a dyn Reporter,
    options: &'a Options,
    /// Whether anything has been launched, so that time has passed since the plan was made.
    launched: AtomicBool,
    /// By key, what is seen of stages that other processes compute.
    watches: Mutex<BTreeMap<String, KeyWatch>>,
    /// The stages of which it has been reported that they wait.
    waiting: Mutex<BTreeSet<String>>,
}

/// How a stage is brought to its end.
#[derive(Clone, Copy)]
struct Manner {
    /// Whether what the plan says of it holds.
    as_planned: bool,
    /// Whether it's left for later while another process computes it, since there may be other things to do.
    leaves: bool,
}

/// What is said of an artifact that was there when the run was planned.
const REMOVED: &str = "it was removed from the store; recomputing";

const REPLACED: &str = "another process has replaced it, and that is used";

/// How often a stage is launched whose inputs are taken away while it's computed.
const LAUNCHES: usize = 3;

impl Worker<'_> {
    fn work(&self) {
        while let Some(next) = self.queue.next() {
            match next {
                Next::Skip(id, stage, because) => {
                    let ending = self.queue.outcome(&because).map(|outcome| outcome.ending);
                    let how = if ending == Some(Ending::Paused) { "was paused" } else { "failed" };
                    self.reporter.event(id, Event::NotRun { because: &because, how });
                    let error = format!("`{because}` {how}");
                    self.queue.settle(id, Outcome::without_artifact(&stage.node.kind, Ending::NotRun, error));
                }
                Next::Run(id, stage, turn) => {
                    // Time has passed where it isn't the first turn.
                    let manner = Manner {
                        as_planned: turn == Turn::First || stage.forced,
                        leaves: turn != Turn::Last && !stage.forced,
                    };
                    self.settle(id, stage, manner);
                }
            }
        }
    }

    /// What a run tells of is in the store at its end: hits that were removed meanwhile are computed after all.
    fn look_again(&self) {
        if !self.launched.load(SeqCst) {
            return;
        }
        for (id, stage) in self.queue.tasks() {
            let is_stopped = self.options.stop.load(SeqCst);
            let outcome = self.queue.outcome(id).filter(|outcome| matches!(outcome.ending, Ending::Hit | Ending::Ran));
            let artifact = outcome.and_then(|outcome| outcome.artifact);
            if artifact.is_some_and(|artifact| !artifact.path.exists()) && !is_stopped {
                self.settle_again(id, stage, REMOVED);
            }
        }
    }

    /// Brings a stage to its end once more, as what the run counted on isn't there any more.
    fn settle_again(&self, id: &str, stage: &Planned, note: &str) {
        self.reporter.event(id, Event::Note(note));
        self.settle(id, stage, Manner { as_planned: false, leaves: false });
    }

    /// Brings a stage to its end, or puts it back if another process computes it.
    fn settle(&self, id: &str, stage: &Planned, manner: Manner) {
        let began = Instant::now();
        let mut key = None;
        // A bug in a stage must not take the others down with it.
        let result = catch_unwind(AssertUnwindSafe(|| self.compute(id, stage, manner, &mut key)))
            .unwrap_or_else(|panic| Err(anyhow!("internal error: {}", panics::text(&*panic).unwrap_or("panic"))));
        if manner.leaves && result.as_ref().is_err_and(|error| error.is::<Busy>()) {
            return self.queue.put_back(id);
        }
        let kind = &stage.node.kind;
        let seconds = began.elapsed().as_secs_f64();
        let outcome = match result {
            Ok((ending, artifact)) => {
                let (kind, artifact) = (kind.clone(), Some(artifact));
                Outcome { kind, ending, key, seconds, artifact, error: None, so_far: Metrics::new() }
            }
            Err(error) => match paused(error) {
                Ok(Paused { place, metrics: so_far, .. }) => {
                    self.reporter.event(id, Event::Paused { place: &place });
                    let outcome = Outcome::without_artifact(kind, Ending::Paused, place);
                    Outcome { key, seconds, so_far, ..outcome }
                }
                Err(error) => {
                    let error = self.resolver.store().explain_full(error);
                    self.reporter.event(id, Event::Failed { error: &error });
                    let outcome = Outcome::without_artifact(kind, Ending::Failed, explained(&error));
                    Outcome { key, seconds, ..outcome }
                }
            },
        };
        tracing::info!(stage = id, ending = outcome.ending.name(), seconds, "settled");
        self.queue.settle(id, outcome);
    }

    /// Finds a stage's artifact, here or in the remote, or has it computed.
    fn compute(
        &self,
        id: &str,
        stage: &Planned,
        Manner { as_planned, leaves }: Manner,
        key: &mut Option<String>,
    ) -> Result<(Ending, Artifact)> {
        let mut trusts_plan = as_planned;
        let mut launches = 0;
        loop {
            let manifest = self.manifest(stage)?;
            *key = Some(manifest.key());
            let is_planned = trusts_plan && stage.key == Key::Known(manifest.key());
            let found = match &stage.status {
                Status::Hit(artifact) if is_planned => Some((Ending::Hit, (**artifact).clone())),
                Status::Remote(artifact) if is_planned => Some((Ending::Fetched, (**artifact).clone())),
                // What was forced in this run already is there.
                _ if is_planned || stage.forced && as_planned => None,
                _ => self.find(&manifest)?,
            };
            tracing::debug!(stage = id, key = short(&manifest.key()), is_planned, found = found.is_some(), "resolved");
            if let Some((ending, artifact)) = found {
                self.report_found(id, &stage.node, ending, &artifact);
                return Ok((ending, artifact));
            }
            let held = if leaves { self.look_at_lease(id, &manifest.key())? } else { IfHeld::Wait };
            let inputs = self.inputs(id, &stage.node)?;
            // Where an input's files couldn't be fetched, it was computed, and may be another one now.
            if self.manifest(stage)? != manifest {
                continue;
            }
            launches += 1;
            let force = stage.forced && as_planned;
            match self.launch(stage, Task { held, force, ..self.task(id, stage, manifest, inputs) }) {
                // The process that took it over is computing it, or already has.
                Err(error) if error.is::<Lost>() => self.reporter.event(id, Event::Note(&error.to_string())),
                Err(error) if error.is::<InputLost>() && launches < LAUNCHES => {
                    self.reporter.event(id, Event::Note(&error.to_string()));
                }
                result => return result,
            }
            trusts_plan = false;
        }
    }

    /// What the stage is computed from, by the files as they were when it was planned and what the stages before it gave.
    fn manifest(&self, stage: &Planned) -> Result<Manifest> {
        let digest = |id: &str| Some(self.queue.outcome(id)?.artifact?.digest);
        stage.manifest(&digest).context("a stage was started before those that it needs")
    }

    /// What is damaged counts as not there; claiming its key reports the damage.
    fn find(&self, manifest: &Manifest) -> Result<Option<(Ending, Artifact)>> {
        Ok(match self.resolver.look(&manifest.key())? {
            Seen::Here(artifact) => Some((Ending::Hit, *artifact)),
            Seen::Remote(artifact) => Some((Ending::Fetched, *artifact)),
            Seen::Damaged(_) | Seen::Nowhere => None,
        })
    }

    fn report_found(&self, id: &str, node: &Node, ending: Ending, artifact: &Artifact) {
        if ending == Ending::Fetched {
            return self.reporter.event(id, Event::InRemote { node, artifact });
        }
        self.reporter.event(id, Event::Hit { node, artifact });
        if let Some(remote) = self.resolver.remote() {
            remote.push(artifact, false);
        }
    }

    /// The keys of what a stage reads, by field, with all files in the local store, as they are now.
    fn inputs(&self, id: &str, node: &Node) -> Result<BTreeMap<String, String>> {
        let local = |need: &String| self.local(need).with_context(|| format!("`{id}` needs `{need}`"));
        node.needs.iter().map(|(field, need)| Ok((field.clone(), local(need)?.key))).collect()
    }

    /// The artifact of a settled stage, its files in the local store: fetched or, where that fails or somebody has removed or
    /// replaced it meanwhile, computed after all.
    fn local(&self, id: &str) -> Result<Artifact> {
        let not_settled = || anyhow!("`{id}` has no artifact");
        loop {
            let outcome = self.queue.outcome(id).with_context(not_settled)?;
            let Some(artifact) = outcome.artifact else { bail!(outcome.error.unwrap_or_default()) };
            let (task, stage) = self.queue.task(id).with_context(not_settled)?;
            let why = match (self.resolver.look(&artifact.key)?, self.resolver.remote()) {
                (Seen::Here(found), _) if found.digest == artifact.digest => return Ok(*found),
                (Seen::Here(_), _) => Some(REPLACED.to_owned()),
                (Seen::Remote(_), Some(_)) => None,
                (Seen::Damaged(damage), _) => Some(format!("the stored artifact is damaged: {damage}; recomputing")),
                (Seen::Nowhere | Seen::Remote(_), _) if outcome.ending == Ending::Fetched => None,
                (Seen::Nowhere | Seen::Remote(_), _) => Some(REMOVED.to_owned()),
            };
            if why.is_some() || self.resolver.remote().is_none() {
                self.settle_again(task, stage, &why.unwrap_or_default());
                continue;
            }
            match self.fetch(id, &artifact) {
                Ok(found) if found.digest == artifact.digest => return Ok(found),
                Ok(_) => self.settle_again(task, stage, REPLACED),
                Err(error) => self.settle_again(task, stage, &format!("{error:#}; recomputing")),
            }
        }
    }

    /// Brings an artifact's files from the remote.
    fn fetch(&self, id: &str, artifact: &Artifact) -> Result<Artifact> {
        let remote = self.resolver.remote().context("no remote was named")?;
        self.reporter.event(id, Event::Fetching);
        let waiting = || self.reporter.event(id, Event::Waiting);
        let progress = |done, total| {
            self.reporter.event(id, Event::Progress { done, total, note: "bytes fetched", remaining: None });
        };
        let fetched = remote.materialise(artifact, &waiting, &progress);
        self.reporter.event(id, Event::Fetched);
        fetched
    }

    fn task(&self, id: &str, stage: &Planned, manifest: Manifest, inputs: BTreeMap<String, String>) -> Task {
        Task {
            id: id.to_owned(),
            node: stage.node.clone(),
            manifest,
            inputs,
            force: false,
            held: IfHeld::Wait,
            until: self.options.until.get(id).copied(),
            provenance: self.options.provenance.clone(),
        }
    }

    /// Looks whether another process computes a key, before anything is fetched or launched for it.
    ///
    /// # Errors
    /// [`Busy`] if one does, which is reported once.
    fn look_at_lease(&self, id: &str, key: &str) -> Result<IfHeld> {
        let mut watches = self.watches.lock();
        if let Some(left) = watches.entry(key.to_owned()).or_insert_with(|| self.resolver.store().watch(key)).look()? {
            watches.remove(key);
            return Ok(IfHeld::Leave(left));
        }
        let is_first = self.waiting.lock().insert(id.to_owned());
        drop(watches);
        if is_first {
            self.reporter.event(id, Event::Waiting);
        }
        Err(Busy.into())
    }

    fn launch(&self, stage: &Planned, task: Task) -> Result<(Ending, Artifact)> {
        let id = task.id.as_str();
        self.check_files(stage)?;
        self.launched.store(true, SeqCst);
        let watch = Watch { stop: &self.options.stop, reporter: self.reporter, digests: self.resolver.digests() };
        let Done { artifact, computed } = self.launcher.launch(&task, watch)?;
        if !computed {
            self.report_found(id, &stage.node, Ending::Hit, &artifact);
            return Ok((Ending::Hit, artifact));
        }
        self.reporter.event(id, Event::Finished { artifact: &artifact });
        if let Some(remote) = self.resolver.remote() {
            remote.push(&artifact, true);
        }
        Ok((Ending::Ran, artifact))
    }

    /// The files have to hold what they held when they were checked and the keys were made of them.
    fn check_files(&self, stage: &Planned) -> Result<()> {
        let now = stage.node.file_digests(&mut self.resolver.digests().lock())?;
        let changed = now.iter().find(|(field, digest)| stage.files.get(*field) != Some(digest));
        let changed = changed.map(|(field, _)| stage.node.files.get(field).cloned().unwrap_or_default());
        let names = |files: Vec<std::path::PathBuf>| {
            files.iter().map(|file| file.display().to_string()).collect::<Vec<_>>().join(", ")
        };
        ensure!(
            changed.is_none(),
            Hinted::with(
                format!("{} changed after the run was planned", changed.map(names).unwrap_or_default()),
                "run it again, so that its keys and checks hold for what it reads",
            )
        );
        Ok(())
    }
}

/// The pause that an error is, be it the stage's own or the end of waiting for another process.
///
/// # Errors
/// A failure, as it is.
fn paused(error: anyhow::Error) -> Result<Paused> {
    error.downcast::<Paused>().or_else(|error| Ok(Paused::at(error.downcast::<Stopped>()?.to_string())))
}
