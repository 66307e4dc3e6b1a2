//! The run itself: claim, compute, commit.

use std::{
    collections::BTreeMap,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{Arc, Mutex, PoisonError, atomic::AtomicBool},
    time::Instant,
};

use anyhow::{Context, Result, anyhow, bail};
use indexmap::IndexMap;

use super::{
    Computed, Ending, Event, Job, Outcome, Paused, Reporter, Runner,
    queue::{Next, Queue},
};
use crate::{
    engine::{
        plan::{Node, trunk},
        remote::Remote,
        store::{Artifact, Claim, DigestCache, Lost, Manifest, Metrics, Provenance, Stopped, Store, unix_time},
    },
    spec::Rung,
    support::panics,
};

/// How to run.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// Stages that run at the same time; at least 1.
    pub jobs: usize,
    /// Stages to compute even if the store has them.
    pub force: Vec<String>,
    /// By task, the rung at which its training is to pause, its state kept, for another run to go on from. What it has
    /// measured by then is in the store's [`Store::rung`].
    pub until: BTreeMap<String, Rung>,
    /// Set by whoever wants the run to stop: what is running pauses as soon as it can go on later, nothing else begins.
    pub stop: Arc<AtomicBool>,
    /// What other machines may have computed, and are given what is computed here.
    pub remote: Option<Arc<Remote>>,
    /// Recorded with every artifact that is made: recipe, overrides, host.
    pub provenance: Provenance,
}

/// Runs tasks (by id, each after those it needs) and tells what became of each. A failure ends the tasks that depend
/// on it and no others.
pub fn execute(
    tasks: &IndexMap<String, Node>,
    store: &Store,
    digests: &Mutex<DigestCache>,
    runner: &dyn Runner,
    reporter: &dyn Reporter,
    options: &Options,
) -> IndexMap<String, Outcome> {
    let queue = Queue::new(tasks, &options.stop);
    let store = &store.clone().stopped_by(Arc::clone(&options.stop));
    let threads = options.jobs.clamp(1, tasks.len().max(1));
    let worker = Worker { queue: &queue, store, digests, runner, reporter, options };
    if threads == 1 {
        worker.work();
    } else {
        std::thread::scope(|scope| {
            for _ in 0..threads {
                scope.spawn(|| worker.work());
            }
        });
    }
    digests.lock().unwrap_or_else(PoisonError::into_inner).save();
    queue.into_outcomes()
}

struct Worker<'a> {
    queue: &'a Queue<'a>,
    store: &'a Store,
    digests: &'a Mutex<DigestCache>,
    runner: &'a dyn Runner,
    reporter: &'a dyn Reporter,
    options: &'a Options,
}

impl Worker<'_> {
    fn work(&self) {
        while let Some(next) = self.queue.next() {
            match next {
                Next::Skip(id, node, because) => {
                    let ending = self.queue.outcome(&because).map(|outcome| outcome.ending);
                    let how = if ending == Some(Ending::Paused) { "was paused" } else { "failed" };
                    self.reporter.event(id, Event::NotRun { because: &because, how });
                    let error = format!("`{because}` {how}");
                    self.queue.settle(id, Outcome::without_artifact(node.stage.kind(), Ending::NotRun, error));
                }
                Next::Run(id, node) => self.settle(id, node),
            }
        }
    }

    fn settle(&self, id: &str, node: &Node) {
        let began = Instant::now();
        let mut key = None;
        // A bug in a stage must not take the others down with it.
        let result = catch_unwind(AssertUnwindSafe(|| self.compute(id, node, &mut key)))
            .unwrap_or_else(|panic| Err(anyhow!("internal error: {}", panics::text(&*panic).unwrap_or("panic"))));
        let kind = node.stage.kind();
        let seconds = began.elapsed().as_secs_f64();
        let outcome = match result {
            Ok((ending, artifact)) => {
                Outcome { kind, ending, key, seconds, artifact: Some(artifact), error: None, so_far: Metrics::new() }
            }
            Err(error) => match paused(error) {
                Ok(Paused { place, metrics: so_far, .. }) => {
                    self.reporter.event(id, Event::Paused { place: &place });
                    let outcome = Outcome::without_artifact(kind, Ending::Paused, place);
                    Outcome { key, seconds, so_far, ..outcome }
                }
                Err(error) => {
                    let error = self.store.explain_full(error);
                    self.reporter.event(id, Event::Failed { error: &error });
                    let outcome = Outcome::without_artifact(kind, Ending::Failed, format!("{error:#}"));
                    Outcome { key, seconds, ..outcome }
                }
            },
        };
        self.queue.settle(id, outcome);
    }

    /// Finds a stage's artifact, here or in the remote, or computes it.
    fn compute(&self, id: &str, node: &Node, key: &mut Option<String>) -> Result<(Ending, Artifact)> {
        loop {
            let manifest = self.manifest(node)?;
            *key = Some(manifest.key());
            if !self.options.force.contains(&node.name)
                && let Some(found) = self.find(id, node, &manifest)
            {
                return Ok(found);
            }
            let inputs = self.inputs(id, node)?;
            // Where an input's files couldn't be fetched, it was computed, and may be another one now.
            if self.manifest(node)? == manifest {
                return self.run(id, node, key, manifest, inputs);
            }
        }
    }

    fn manifest(&self, node: &Node) -> Result<Manifest> {
        let digest = |name: &str| Some(self.artifact(name)?.digest);
        let mut digests = self.digests.lock().unwrap_or_else(PoisonError::into_inner);
        node.manifest(&mut digests, &digest)?.context("a stage was started before those that it needs")
    }

    fn artifact(&self, id: &str) -> Option<Artifact> {
        self.queue.outcome(id)?.artifact
    }

    /// A damaged artifact counts as none; whoever claims its key learns of the damage.
    fn find(&self, id: &str, node: &Node, manifest: &Manifest) -> Option<(Ending, Artifact)> {
        let key = manifest.key();
        if let Ok(Some(artifact)) = self.store.hit(&key) {
            return Some(self.hit(id, node, artifact));
        }
        let artifact = self.options.remote.as_ref()?.find(&key)?;
        self.reporter.event(id, Event::InRemote { node, artifact: &artifact });
        Some((Ending::Fetched, artifact))
    }

    fn hit(&self, id: &str, node: &Node, artifact: Artifact) -> (Ending, Artifact) {
        self.reporter.event(id, Event::Hit { node, artifact: &artifact });
        if let Some(remote) = &self.options.remote {
            remote.push(&artifact, false);
        }
        (Ending::Hit, artifact)
    }

    /// What a stage reads, with all files in the local store.
    fn inputs(&self, id: &str, node: &Node) -> Result<BTreeMap<String, Artifact>> {
        let local = |need: &String| self.local(need).with_context(|| format!("`{id}` needs `{need}`"));
        node.needs.iter().map(|(field, need)| Ok((field.clone(), local(need)?))).collect()
    }

    /// The artifact of a settled stage, its files in the local store: fetched or, where that fails, computed after all.
    fn local(&self, id: &str) -> Result<Artifact> {
        let not_settled = || anyhow!("`{id}` has no artifact");
        loop {
            let outcome = self.queue.outcome(id).with_context(not_settled)?;
            let Some(artifact) = outcome.artifact else { bail!(outcome.error.unwrap_or_default()) };
            let Some(remote) = self.options.remote.as_ref().filter(|_| outcome.ending == Ending::Fetched) else {
                return Ok(artifact);
            };
            if let Ok(Some(artifact)) = self.store.find(&artifact.key) {
                return Ok(artifact);
            }
            self.reporter.event(id, Event::Fetching);
            let waiting = || self.reporter.event(id, Event::Waiting);
            let progress = |done, total| {
                self.reporter.event(id, Event::Progress { done, total, note: "bytes fetched", remaining: None });
            };
            let fetched = remote.materialise(&artifact, &waiting, &progress);
            self.reporter.event(id, Event::Fetched);
            match fetched {
                Ok(artifact) => return Ok(artifact),
                Err(error) => self.reporter.event(id, Event::Note(&format!("{error:#}; computed again"))),
            }
            let (id, node) = self.queue.task(id).with_context(not_settled)?;
            self.settle(id, node);
        }
    }

    fn run(
        &self,
        id: &str,
        node: &Node,
        key: &mut Option<String>,
        manifest: Manifest,
        inputs: BTreeMap<String, Artifact>,
    ) -> Result<(Ending, Artifact)> {
        let force = self.options.force.contains(&node.name);
        let trunk = if force { None } else { trunk(&node.stage, &manifest) };
        let slot = match self.store.claim(manifest, force, &|| self.reporter.event(id, Event::Waiting))? {
            Claim::Hit(artifact) => return Ok(self.hit(id, node, *artifact)),
            Claim::Miss(slot) => slot,
        };
        if let Some(damage) = slot.damage() {
            self.reporter.event(id, Event::Note(&format!("what the store has is damaged: {damage:#}; computed again")));
        }
        self.reporter.event(id, Event::Started { node, key: slot.key() });
        let started = unix_time();
        let began = Instant::now();
        let computed = self.runner.run(&Job {
            name: id,
            stage: &node.stage,
            seed: node.seed,
            files: &node.files,
            inputs,
            out: slot.dir(),
            state: slot.state(),
            trunk: trunk.map(|key| self.store.shared_state(&key)),
            until: self.options.until.get(id).copied(),
            stop: &self.options.stop,
            lost: slot.lost(),
            reporter: self.reporter,
        });
        if slot.is_lost() {
            // Whoever took it over is computing it, or already has.
            drop(slot);
            self.reporter.event(id, Event::Note(&Lost.to_string()));
            return self.compute(id, node, key);
        }
        if let Err(error) = &computed
            && self.options.until.contains_key(id)
        {
            self.remember(id, slot.key(), error);
        }
        let Computed { metrics, pace } = computed?;
        let provenance = Provenance {
            stage: node.name.clone(),
            spec: node.described.clone(),
            device: self.runner.device(&node.stage),
            started,
            seconds: began.elapsed().as_secs_f64(),
            pace,
            ..self.options.provenance.clone()
        };
        let artifact = slot.commit(metrics, provenance)?;
        self.reporter.event(id, Event::Finished { artifact: &artifact });
        if let Some(remote) = &self.options.remote {
            remote.push(&artifact, true);
        }
        Ok((Ending::Ran, artifact))
    }

    /// Remembers what a training had measured that paused at a rung, also when its state is gone. Without that nothing is
    /// lost but the time to look again.
    fn remember(&self, id: &str, key: &str, error: &anyhow::Error) {
        let Some(Paused { measured: Some(measured), .. }) = error.downcast_ref() else { return };
        if let Err(error) = self.store.rung(key).keep(Vec::new(), measured) {
            self.reporter.event(id, Event::Note(&format!("what it measured can't be kept: {error:#}")));
        }
    }
}

/// The pause that an error is, be it the stage's own or the end of waiting for another process.
///
/// # Errors
/// A failure, as it is.
fn paused(error: anyhow::Error) -> Result<Paused> {
    error.downcast::<Paused>().or_else(|error| Ok(Paused::at(error.downcast::<Stopped>()?.to_string())))
}
