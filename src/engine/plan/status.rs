//! What a run would do with each stage.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::Result;

use super::{Graph, continues_from, differences, nearest};
use crate::engine::{
    remote::Remote,
    store::{Artifact, DigestCache, Store},
};

/// A stage, and what a run would do with it.
#[derive(Clone, Debug)]
pub struct Planned {
    /// The stage's name.
    pub name: String,
    /// The stage's kind.
    pub kind: &'static str,
    /// The stages it needs.
    pub needs: Vec<String>,
    /// Hit or miss.
    pub status: Status,
}

/// Hit or miss, and why.
#[derive(Clone, Debug)]
pub enum Status {
    /// The artifact is in the store.
    Hit(Box<Artifact>),
    /// The artifact is in the remote: this is its record.
    Remote(Box<Artifact>),
    /// It has to be computed.
    Miss {
        /// Its key.
        key: String,
        /// What differs from the nearest stored run.
        reason: String,
        /// The step after which its training goes on, where it doesn't have to start over.
        from: Option<usize>,
    },
    /// Whether it's a hit depends on what these stages give.
    Waits(Vec<String>),
}

impl Status {
    /// The artifact, where there is one already.
    pub fn artifact(&self) -> Option<&Artifact> {
        match self {
            Self::Hit(artifact) | Self::Remote(artifact) => Some(artifact),
            Self::Miss { .. } | Self::Waits(_) => None,
        }
    }
}

/// The stages of a plan whose files would be fetched from the remote, since a stage that has to run, or may have to,
/// reads them.
pub fn fetched(planned: &[Planned]) -> BTreeSet<&str> {
    let runs = planned.iter().filter(|stage| stage.status.artifact().is_none());
    let read: BTreeSet<&String> = runs.flat_map(|stage| &stage.needs).collect();
    let remote = planned.iter().filter(|stage| matches!(stage.status, Status::Remote(_)));
    remote.filter(|stage| read.contains(&stage.name)).map(|stage| stage.name.as_str()).collect()
}

/// Looks up every stage of the graph, here and then in the remote. Stages named in `force` count as misses.
///
/// # Errors
/// If the store or an input can't be read.
pub fn plan(
    graph: &Graph,
    store: &Store,
    remote: Option<&Remote>,
    digests: &mut DigestCache,
    force: &[String],
) -> Result<Vec<Planned>> {
    let mut stored: Option<Vec<Artifact>> = None;
    let mut known: BTreeMap<String, String> = BTreeMap::new();
    let mut planned = Vec::new();
    for node in graph.nodes() {
        let manifest = node.manifest(digests, &|name| known.get(name).cloned())?;
        let status = match manifest {
            None => {
                let unknown = node.needs.values().filter(|name| !known.contains_key(*name));
                Status::Waits(unknown.cloned().collect())
            }
            Some(manifest) => {
                let key = manifest.key();
                let found = store.find(&key);
                let elsewhere = || remote?.find(&key);
                match found {
                    _ if force.contains(&node.name) => Status::Miss { key, reason: "forced".into(), from: None },
                    Ok(Some(artifact)) => Status::Hit(Box::new(artifact)),
                    Ok(None) | Err(_) if let Some(artifact) = elsewhere() => Status::Remote(Box::new(artifact)),
                    Err(damage) => {
                        let reason = format!("what the store has is damaged: {damage:#}");
                        Status::Miss { key, reason, from: continues_from(&node.stage, &manifest, store) }
                    }
                    Ok(None) => {
                        if stored.is_none() {
                            stored = Some(store.list()?);
                        }
                        let runs = stored.as_deref().unwrap_or_default();
                        let from = continues_from(&node.stage, &manifest, store);
                        Status::Miss { key, reason: reason(node, &manifest, runs), from }
                    }
                }
            }
        };
        if let Some(artifact) = status.artifact() {
            known.insert(node.name.clone(), artifact.digest.clone());
        }
        let needs = node.needs.values().cloned().collect();
        planned.push(Planned { name: node.name.clone(), kind: node.stage.kind(), needs, status });
    }
    Ok(planned)
}

fn reason(node: &super::Node, manifest: &crate::engine::store::Manifest, runs: &[Artifact]) -> String {
    let Some(run) = nearest(node, manifest, runs) else {
        return format!("no {} stage was run before", manifest.kind);
    };
    let changes: Vec<_> = differences(&node.described, manifest, run).iter().map(ToString::to_string).collect();
    match changes.len() {
        0..=3 => changes.join("; "),
        more => format!("{}; and {} more differences", changes[..2].join("; "), more - 2),
    }
}
