//! What a sweep will take: the stages that aren't in the store, and how long such stages took before.

use std::collections::BTreeMap;

use anyhow::Result;

use crate::{
    engine::{
        plan::{Node, Plan, nearest},
        store::{Artifact, Manifest, Store},
    },
    stages::{Training, facts_of},
};

/// How many stored runs of a kind, the newest, are looked at for the one that's most like a stage.
const LOOKED_AT: usize = 20;

/// Stages and time.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Cost {
    /// Stages that the store or the remote has.
    pub stored: usize,
    /// Stages to compute by kind; those whose inputs aren't known yet among them, which may turn out to be stored.
    pub missing: BTreeMap<String, usize>,
    /// What the missing ones will take, one after the other, by how long stages like them took.
    pub seconds: f64,
    /// Missing stages that no stored run is like.
    pub unknown: usize,
}

impl Cost {
    /// That of a plan.
    ///
    /// # Errors
    /// If the store can't be read.
    pub fn of(plan: &Plan, store: &Store) -> Result<Self> {
        let mut cost = Self::default();
        let mut runs: Option<BTreeMap<String, Vec<Artifact>>> = None;
        for (_, planned) in plan.stages() {
            if !planned.is_missing() {
                cost.stored += 1;
                continue;
            }
            let node = &planned.node;
            *cost.missing.entry(node.kind.clone()).or_insert(0) += 1;
            if runs.is_none() {
                runs = Some(newest(store)?);
            }
            // A need that isn't known stands in the manifest as nothing, which serves to compare it.
            let digest = |need: &str| Some(plan.artifact(need).map(|found| found.digest.clone()).unwrap_or_default());
            let Some(manifest) = planned.manifest(&digest) else { continue };
            let runs = runs.as_ref().and_then(|runs| runs.get(&node.kind));
            match like(node, &manifest, runs.map(Vec::as_slice).unwrap_or_default()) {
                Some(seconds) => cost.seconds += seconds,
                None => cost.unknown += 1,
            }
        }
        Ok(cost)
    }

    /// How many stages are to be computed.
    pub fn to_compute(&self) -> usize {
        self.missing.values().sum()
    }
}

/// The newest runs of each kind.
fn newest(store: &Store) -> Result<BTreeMap<String, Vec<Artifact>>> {
    let mut runs: BTreeMap<String, Vec<Artifact>> = BTreeMap::new();
    for run in store.list()? {
        let of_kind = runs.entry(run.manifest.kind.clone()).or_default();
        if of_kind.len() < LOOKED_AT {
            of_kind.push(run);
        }
    }
    Ok(runs)
}

/// How long the stored run that's most like this one took, scaled to the length of training.
fn like(node: &Node, manifest: &Manifest, runs: &[Artifact]) -> Option<f64> {
    let run = nearest(node, manifest, runs)?;
    Some(run.provenance.seconds * scale(node, run).unwrap_or(1.0))
}

/// How long a stage trains, over how long a stored run did; `None` where one is in steps and the other in epochs.
fn scale(node: &Node, run: &Artifact) -> Option<f64> {
    let Training { train, settings, .. } = facts_of(node).ok()?.training?;
    let stored = |unit: &str| run.provenance.spec.pointer(&settings.json_pointer())?.get(unit)?.as_f64();
    let (now, then) = match (train.steps, train.epochs) {
        (Some(steps), _) => (steps as f64, stored("steps")?),
        (None, epochs) => (epochs?, stored("epochs")?),
    };
    (then > 0.0).then_some(now / then)
}
