//! Whether a stage is a hit: the one place where the store and the remote are asked for that.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::Result;
use indexmap::IndexSet;
use parking_lot::Mutex;

use super::{Graph, Key, Node, Plan, Planned, Reason, Status, differences, nearest, resume::resumes_from};
use crate::engine::{
    remote::Remote,
    store::{Artifact, DigestCache, Found, Manifest, Store},
};

/// Looks stages up, here and, if there is one, in the remote.
#[derive(Debug)]
pub struct Resolver<'a> {
    store: &'a Store,
    digests: &'a Mutex<DigestCache>,
    remote: Option<&'a Remote>,
    force: Vec<String>,
    records_only: bool,
    explains: bool,
    assumes: bool,
    /// What was found under which key, where that is remembered.
    seen: Option<Mutex<BTreeMap<String, Seen>>>,
}

/// What there is under a key.
#[derive(Clone, Debug)]
pub(crate) enum Seen {
    Here(Box<Artifact>),
    Remote(Box<Artifact>),
    Damaged(String),
    Nowhere,
}

/// What later keys of a plan are made of.
struct Output {
    digest: String,
    /// Whether that is what a stage gives which hasn't run yet, by its nearest run.
    is_assumed: bool,
}

impl<'a> Resolver<'a> {
    /// Asks the store alone.
    pub fn new(store: &'a Store, digests: &'a Mutex<DigestCache>) -> Self {
        Self {
            store,
            digests,
            remote: None,
            force: Vec::new(),
            records_only: false,
            explains: false,
            assumes: false,
            seen: None,
        }
    }

    /// Asks the remote for what the store doesn't have.
    pub fn with_remote(self, remote: Option<&'a Remote>) -> Self {
        Self { remote, ..self }
    }

    /// Counts stages of these names as misses.
    pub fn forcing(self, names: &[String]) -> Self {
        Self { force: names.to_vec(), ..self }
    }

    /// Goes by the records of artifacts, whatever has become of their files.
    pub fn by_records(self) -> Self {
        Self { records_only: true, ..self }
    }

    /// Reports for each miss what differs from the nearest stored run, and what it can resume from.
    pub fn explaining(self) -> Self {
        Self { explains: true, ..self }
    }

    /// As [`Self::explaining`], and lets the nearest stored run of a miss stand in for its output, to find out more of the
    /// stages after it. Their keys stay [`Key::After`] it.
    pub fn assuming(self) -> Self {
        Self { explains: true, assumes: true, ..self }
    }

    /// Asks for each key once only.
    pub fn remembering(self) -> Self {
        Self { seen: Some(Mutex::default()), ..self }
    }

    /// The store that is asked.
    pub fn store(&self) -> &'a Store {
        self.store
    }

    /// The remote that is asked.
    pub fn remote(&self) -> Option<&'a Remote> {
        self.remote
    }

    /// The digests of input files.
    pub fn digests(&self) -> &'a Mutex<DigestCache> {
        self.digests
    }

    /// Looks up every stage of the graph.
    ///
    /// # Errors
    /// If an input, a record or an artifact's file can't be read. One that was read and isn't what was written counts as
    /// missing, and is no error.
    pub fn plan(&self, graph: &Graph) -> Result<Plan> {
        let mut runs: Option<Vec<Artifact>> = None;
        let mut outputs: BTreeMap<&str, Output> = BTreeMap::new();
        let mut plan = Plan::default();
        for (id, node) in graph.by_id() {
            let files = node.file_digests(&mut self.digests.lock())?;
            let unknown = |need: &&String| outputs.get(need.as_str()).is_none_or(|output| output.is_assumed);
            let after: IndexSet<&String> = node.needs.values().filter(unknown).collect();
            let manifest = node.manifest(&files, &|need| Some(outputs.get(need)?.digest.clone()));
            let forced = self.force.contains(&node.name);
            let status = match &manifest {
                None => Status::Waits,
                Some(manifest) => self.status(node, manifest, forced, &mut runs)?,
            };
            let key = match &manifest {
                Some(manifest) if after.is_empty() => Key::Known(manifest.key()),
                _ => Key::After(after.into_iter().cloned().collect()),
            };
            let is_assumed = key.known().is_none();
            let output = match &status {
                Status::Hit(artifact) | Status::Remote(artifact) => {
                    Some(Output { digest: artifact.digest.clone(), is_assumed })
                }
                Status::Miss { reason: Reason::Differs { nearest, .. }, .. } if self.assumes => {
                    Some(Output { digest: nearest.digest.clone(), is_assumed: true })
                }
                Status::Miss { .. } | Status::Waits => None,
            };
            outputs.extend(output.map(|output| (id.as_str(), output)));
            tracing::debug!(stage = id, ?key, status = status.word(), "planned");
            plan.insert(id.clone(), Planned { node: node.clone(), key, status, forced, files });
        }
        Ok(plan)
    }

    fn status(
        &self,
        node: &Node,
        manifest: &Manifest,
        forced: bool,
        runs: &mut Option<Vec<Artifact>>,
    ) -> Result<Status> {
        if forced {
            return Ok(Status::Miss { reason: Reason::Forced, from: None });
        }
        let from = || if self.explains { resumes_from(node, manifest, self.store) } else { None };
        Ok(match self.look(&manifest.key())? {
            Seen::Here(artifact) => Status::Hit(artifact),
            Seen::Remote(artifact) => Status::Remote(artifact),
            Seen::Damaged(damage) => Status::Miss { reason: Reason::Damaged(damage), from: from() },
            Seen::Nowhere if !self.explains => Status::Miss { reason: Reason::NotStored, from: None },
            Seen::Nowhere => {
                if runs.is_none() {
                    *runs = Some(self.runs()?);
                }
                let reason = match nearest(node, manifest, runs.as_deref().unwrap_or_default()) {
                    Some(run) => Reason::Differs {
                        nearest: Box::new(run.clone()),
                        differences: differences(&node.described, manifest, run),
                    },
                    None => Reason::FirstOfItsKind(manifest.kind.clone()),
                };
                Status::Miss { reason, from: from() }
            }
        })
    }

    /// The runs that a miss is compared with: those in the store, and those that were seen in the remote.
    fn runs(&self) -> Result<Vec<Artifact>> {
        let mut runs = self.store.list()?;
        let keys: BTreeSet<String> = runs.iter().map(|run| run.key.clone()).collect();
        let known = self.remote.map(Remote::known).unwrap_or_default();
        runs.extend(known.into_iter().filter(|run| !keys.contains(&run.key)));
        Ok(runs)
    }

    /// What there is under a key.
    ///
    /// # Errors
    /// If what the store has can't be read.
    pub(crate) fn look(&self, key: &str) -> Result<Seen> {
        if let Some(seen) = self.seen.as_ref().and_then(|seen| seen.lock().get(key).cloned()) {
            return Ok(seen);
        }
        let here = if self.records_only { self.store.look_at_record(key)? } else { self.store.look(key)? };
        let elsewhere = || self.remote?.find(key).map(|artifact| Seen::Remote(Box::new(artifact)));
        let seen = match here {
            Found::Intact(artifact) => Seen::Here(artifact),
            Found::Damaged(damage) => elsewhere().unwrap_or_else(|| Seen::Damaged(format!("{damage:#}"))),
            Found::Nothing => elsewhere().unwrap_or(Seen::Nowhere),
        };
        if let Some(memory) = &self.seen {
            memory.lock().insert(key.to_owned(), seen.clone());
        }
        Ok(seen)
    }
}
