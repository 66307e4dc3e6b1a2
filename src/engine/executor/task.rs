//! One stage to compute, as a value that another process can be given; and the computation in this one.

use std::{
    collections::BTreeMap,
    sync::{Arc, atomic::AtomicBool},
    time::Instant,
};

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};

use super::{Computed, Event, Inputs, Job, Paused, Reporter, Runner};
use crate::engine::{
    plan::Node,
    store::{Artifact, Claim, Lost, Manifest, Provenance, Store, unix_time},
};

/// A stage to compute. All that it reads is in the store.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct Task {
    /// Its id in the plan, which events are about.
    pub id: String,
    /// The stage.
    pub node: Node,
    /// What its artifact is computed from.
    pub manifest: Manifest,
    /// The keys of the artifacts that it reads, by the field that names their stage.
    pub inputs: BTreeMap<String, String>,
    /// Whether it's computed even if the store has it.
    pub force: bool,
    /// Where it's to pause: at one in so many of its steps.
    pub until: Option<usize>,
    /// What is recorded with its artifact of the run that it's a part of.
    pub provenance: Provenance,
}

/// Follows a computation, and can stop it.
#[derive(Clone, Copy)]
pub struct Watch<'a> {
    /// Stop flag.
    pub stop: &'a Arc<AtomicBool>,
    /// Receives events.
    pub reporter: &'a dyn Reporter,
}

/// How a computation ended that has given an artifact.
#[derive(Clone, Debug)]
pub struct Done {
    /// The artifact.
    pub artifact: Artifact,
    /// Whether it was computed by this, and not by another process meanwhile.
    pub computed: bool,
}

/// A way to have stages computed: in this process, in another one, on another machine. The artifact is committed to the
/// store by the process that computes it.
pub trait Launch: Sync {
    /// Computes a stage, and returns when that is done.
    ///
    /// # Errors
    /// [`Paused`] if it was stopped, [`Lost`] if another process took it over; else what failed.
    fn launch(&self, task: &Task, watch: Watch<'_>) -> Result<Done>;
}

/// Stages are computed in this process.
pub struct Local<'a> {
    store: &'a Store,
    runner: &'a dyn Runner,
}

impl<'a> Local<'a> {
    /// In this store, by this runner.
    pub fn new(store: &'a Store, runner: &'a dyn Runner) -> Self {
        Self { store, runner }
    }
}

impl Launch for Local<'_> {
    fn launch(&self, task: &Task, watch: Watch<'_>) -> Result<Done> {
        let Task { id, node, manifest, force, until, .. } = task;
        let report = |event: Event<'_>| watch.reporter.event(id, event);
        let store = self.store.clone().stopped_by(Arc::clone(watch.stop));
        let slot = match store.claim(manifest.clone(), *force, &|| report(Event::Waiting))? {
            Claim::Hit(artifact) => return Ok(Done { artifact: *artifact, computed: false }),
            Claim::Miss(slot) => slot,
        };
        if let Some(damage) = slot.damage() {
            report(Event::Note(&format!("the stored artifact is damaged: {damage:#}; recomputing")));
        }
        report(Event::Started { node, key: slot.key() });
        let (started, began) = (unix_time(), Instant::now());
        let trunk = if *force { None } else { node.trunk_key(manifest) };
        let computed = self.runner.run(&Job {
            name: id,
            node,
            inputs: Inputs { seed: node.seed, files: &node.files, artifacts: self.artifacts(task)? },
            out: slot.dir(),
            state: slot.state(),
            trunk: trunk.map(|key| store.shared_state(&key)),
            until: *until,
            stop: watch.stop,
            lost: slot.lost(),
            reporter: watch.reporter,
        });
        if slot.is_lost() {
            return Err(Lost.into());
        }
        if let Err(error) = &computed
            && until.is_some()
            && let Some(Paused { measured: Some(measured), .. }) = error.downcast_ref()
            // Also when its state is gone. Without this nothing is lost but the time to look again.
            && let Err(error) = store.rung(slot.key()).keep(Vec::new(), measured)
        {
            report(Event::Note(&format!("its metrics can't be saved: {error:#}")));
        }
        let Computed { metrics, throughput, examples } = computed?;
        let provenance = Provenance {
            stage: node.name.clone(),
            spec: node.described.clone(),
            device: self.runner.device(node),
            arithmetic: self.runner.arithmetic(),
            started,
            seconds: began.elapsed().as_secs_f64(),
            throughput,
            examples,
            ..task.provenance.clone()
        };
        Ok(Done { artifact: slot.commit(metrics, provenance)?, computed: true })
    }
}

impl Local<'_> {
    fn artifacts(&self, task: &Task) -> Result<BTreeMap<String, Artifact>> {
        let input = |(field, key): (&String, &String)| {
            let artifact = self.store.record(key)?;
            let artifact =
                artifact.with_context(|| format!("the artifact that `{field}` names is no longer in the store"))?;
            Ok((field.clone(), artifact))
        };
        task.inputs.iter().map(input).collect()
    }
}
