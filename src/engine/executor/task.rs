//! One stage to compute, as a value that another process can be given; and the computation in this one.

use std::{
    collections::BTreeMap,
    fmt,
    sync::{Arc, atomic::AtomicBool},
    time::Instant,
};

use anyhow::Result;
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};

use super::{
    Computed, Event, Inputs, Job, Paused, Reporter, Runner,
    sources::{Moved, Sources},
};
use crate::engine::{
    plan::Node,
    store::{
        Artifact, Claim, DigestCache, Found, LeftBehind, Lost, Manifest, Provenance, Slot, Store, Vouch, unix_time,
    },
};

/// How often a stage is computed whose files are changed while it reads them, and changed back.
const ATTEMPTS: usize = 3;

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
    /// What to do if another process is computing it.
    #[serde(default)]
    pub held: IfHeld,
    /// Where it's to pause: at one in so many of its steps.
    pub until: Option<usize>,
    /// What is recorded with its artifact of the run that it's a part of.
    pub provenance: Provenance,
}

/// What to do where another process holds a key.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum IfHeld {
    /// Wait for it.
    #[default]
    Wait,
    /// Leave it, as [`Busy`]; unless it's still what was seen to be left behind.
    Leave(LeftBehind),
}

/// Another process is computing a stage, and this one has other things to do.
#[derive(Debug)]
pub struct Busy;

impl fmt::Display for Busy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("another process is computing it")
    }
}

impl std::error::Error for Busy {}

/// Follows a computation, and can stop it.
#[derive(Clone, Copy)]
pub struct Watch<'a> {
    /// Stop flag.
    pub stop: &'a Arc<AtomicBool>,
    /// Receives events.
    pub reporter: &'a dyn Reporter,
    /// The digests of input files, by which the key was made.
    pub digests: &'a Mutex<DigestCache>,
}

/// An artifact that a stage reads isn't in the store any more as it was when the stage was launched: it was removed,
/// damaged or replaced meanwhile.
#[derive(Debug)]
pub struct InputLost {
    /// The field that names its stage.
    pub field: String,
}

impl fmt::Display for InputLost {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the artifact that `{}` names is no longer in the store as it was", self.field)
    }
}

impl std::error::Error for InputLost {}

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
    /// [`Paused`] if it was stopped, [`Lost`] if another process took it over, [`Busy`] if one holds it and it isn't to be waited
    /// for, [`InputLost`] if something that it reads was taken away; else what failed.
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
        let claim = match &task.held {
            IfHeld::Leave(left) if !force => store.try_claim(manifest.clone(), left)?.ok_or(Busy)?,
            _ => store.claim(manifest.clone(), *force, &|| report(Event::Waiting))?,
        };
        let slot = match claim {
            Claim::Hit(artifact) => return Ok(Done { artifact: *artifact, computed: false }),
            Claim::Miss(slot) => slot,
        };
        if let Some(damage) = slot.damage() {
            report(Event::Note(&format!("the stored artifact is damaged: {damage:#}; recomputing")));
        }
        let (started, mut began) = (unix_time(), Instant::now());
        // Now, since whoever waited for the key may have done so for long.
        let mut sources = Arc::new(Sources::look(node, manifest, watch.digests)?);
        report(Event::Started { node, key: slot.key() });
        let mut attempt = 1;
        let computed = loop {
            let computed = self.compute(task, watch, &slot, &sources);
            if slot.is_lost() {
                return Err(Lost.into());
            }
            let moved = match sources.vouch() {
                // Its state has been vouched for.
                _ if computed.as_ref().is_err_and(|error| error.is::<Paused>()) => break computed,
                Ok(()) => break computed,
                Err(error) => error.downcast::<Moved>()?,
            };
            if attempt == ATTEMPTS {
                return Err(Sources::restless(&moved).into());
            }
            attempt += 1;
            report(Event::Note(&format!("{moved}; starting over")));
            slot.clear()?;
            began = Instant::now();
            sources = Arc::new(Sources::look(node, manifest, watch.digests)?);
        };
        if !computed.as_ref().is_err_and(|error| error.is::<Paused>()) {
            self.inputs_hold(task, computed.is_ok())?;
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
            pinned: node.pinned.clone(),
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
    fn compute(&self, task: &Task, watch: Watch<'_>, slot: &Slot, sources: &Arc<Sources>) -> Result<Computed> {
        let Task { id, node, manifest, force, until, .. } = task;
        let trunk = if *force { None } else { node.trunk_key(manifest) };
        let vouched = || Arc::clone(sources) as Arc<dyn Vouch>;
        self.runner.run(&Job {
            name: id,
            node,
            inputs: Inputs { seed: node.seed, files: &node.files, artifacts: self.artifacts(task)? },
            out: slot.dir(),
            state: slot.state().vouched_by(vouched()),
            trunk: trunk.map(|key| self.store.shared_state(&key).vouched_by(vouched())),
            until: *until,
            stop: watch.stop,
            lost: slot.lost(),
            reporter: watch.reporter,
            sources,
        })
    }

    /// What the stage reads of others.
    fn artifacts(&self, task: &Task) -> Result<BTreeMap<String, Artifact>> {
        let input = |(field, key): (&String, &String)| match self.store.look(key)? {
            Found::Intact(artifact) if task.manifest.inputs.get(field) == Some(&artifact.digest) => {
                Ok((field.clone(), *artifact))
            }
            _ => Err(InputLost { field: field.clone() }.into()),
        };
        task.inputs.iter().map(input).collect()
    }

    /// Sees that what the stage has read of others is what it was. What was removed behind it did no harm, unless it failed.
    fn inputs_hold(&self, task: &Task, is_done: bool) -> Result<()> {
        for (field, key) in &task.inputs {
            let holds = match self.store.look(key)? {
                Found::Intact(artifact) => task.manifest.inputs.get(field) == Some(&artifact.digest),
                Found::Damaged(_) => false,
                Found::Nothing => is_done,
            };
            if !holds {
                return Err(InputLost { field: field.clone() }.into());
            }
        }
        Ok(())
    }
}
