//! The run itself: claim, compute, commit.

use std::{
    collections::BTreeMap,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{Arc, Mutex, PoisonError, atomic::AtomicBool},
    time::{Instant, SystemTime, UNIX_EPOCH},
};

use anyhow::{Context, Result, anyhow};
use indexmap::IndexMap;

use super::{
    Ending, Event, Job, Outcome, Paused, Reporter, Runner,
    queue::{Next, Queue},
};
use crate::{
    plan::{Node, trunk},
    store::{Artifact, Claim, DigestCache, Lost, Metrics, Provenance, Store},
};

/// How to run.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// Stages that run at the same time; at least 1.
    pub jobs: usize,
    /// Stages to compute even if the store has them.
    pub force: Vec<String>,
    /// By task, the step at which its training is to pause, its state kept, for another run to go on from.
    pub until: BTreeMap<String, usize>,
    /// Set by whoever wants the run to stop: what is running pauses as soon as it can go on later, nothing else begins.
    pub stop: Arc<AtomicBool>,
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
            .unwrap_or_else(|panic| Err(anyhow!("internal error: {}", panic_message(&*panic))));
        let kind = node.stage.kind();
        let seconds = began.elapsed().as_secs_f64();
        let outcome = match result {
            Ok((ending, artifact)) => {
                Outcome { kind, ending, key, seconds, artifact: Some(artifact), error: None, so_far: Metrics::new() }
            }
            Err(error) => match error.downcast::<Paused>() {
                Ok(Paused { place, metrics: so_far }) => {
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

    fn compute(&self, id: &str, node: &Node, key: &mut Option<String>) -> Result<(Ending, Artifact)> {
        let upstream = |name: &str| self.queue.outcome(name).and_then(|outcome| outcome.artifact);
        let manifest = node
            .manifest(&mut self.digests.lock().unwrap_or_else(PoisonError::into_inner), &|name| {
                upstream(name).map(|artifact| artifact.digest)
            })?
            .context("a stage was started before those that it needs")?;
        *key = Some(manifest.key());
        let force = self.options.force.contains(&node.name);
        let trunk = if force { None } else { trunk(&node.stage, &manifest) };
        let slot = match self.store.claim(manifest, force, &|| self.reporter.event(id, Event::Waiting))? {
            Claim::Hit(artifact) => {
                self.reporter.event(id, Event::Hit { artifact: &artifact });
                return Ok((Ending::Hit, *artifact));
            }
            Claim::Miss(slot) => slot,
        };
        if let Some(damage) = slot.damage() {
            self.reporter.event(id, Event::Note(&format!("what the store has is damaged: {damage:#}; computed again")));
        }
        self.reporter.event(id, Event::Started { kind: node.stage.kind() });
        let started = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0.0, |since| since.as_secs_f64());
        let began = Instant::now();
        let inputs = node.needs.iter().filter_map(|(field, name)| Some((field.clone(), upstream(name)?))).collect();
        let metrics = self.runner.run(&Job {
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
            reporter: self.reporter,
        });
        if slot.is_lost() {
            // Whoever took it over is computing it, or already has.
            drop(slot);
            self.reporter.event(id, Event::Note(&Lost.to_string()));
            return self.compute(id, node, key);
        }
        let metrics = metrics?;
        let provenance = Provenance {
            stage: node.name.clone(),
            spec: node.described.clone(),
            device: self.runner.device(&node.stage),
            started,
            seconds: began.elapsed().as_secs_f64(),
            ..self.options.provenance.clone()
        };
        let artifact = slot.commit(metrics, provenance)?;
        self.reporter.event(id, Event::Finished { artifact: &artifact });
        Ok((Ending::Ran, artifact))
    }
}

fn panic_message(panic: &(dyn std::any::Any + Send)) -> &str {
    panic.downcast_ref::<String>().map(String::as_str).or_else(|| panic.downcast_ref().copied()).unwrap_or("panic")
}
