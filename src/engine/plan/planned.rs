//! What a run will do with each stage, under which key, and why. A run takes its plan by value: what was decided and
//! checked here is what happens.

use std::{collections::BTreeSet, fmt};

use indexmap::IndexMap;

use super::{Difference, FileDigests, Node, Upstream};
use crate::engine::store::{Artifact, Manifest};

/// Stages by id, each after those that it needs.
#[derive(Clone, Debug, Default)]
pub struct Plan {
    stages: IndexMap<String, Planned>,
}

/// A stage, and what a run will do with it.
#[derive(Clone, Debug)]
pub struct Planned {
    /// The stage.
    pub node: Node,
    /// What its artifact is or will be stored under.
    pub key: Key,
    /// Hit or miss.
    pub status: Status,
    /// Whether it's computed even if the store has it.
    pub forced: bool,
    /// What the files that it reads held when the plan was made.
    pub(crate) files: FileDigests,
}

/// The key of a planned stage.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Key {
    /// This one.
    Known(String),
    /// It depends on what these stages give, which have to run first.
    After(Vec<String>),
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
        /// Why.
        reason: Reason,
        /// The step that it resumes from, where it doesn't have to start over.
        from: Option<usize>,
    },
    /// Whether it's a hit depends on stages that have to run first: see [`Key::After`].
    Waits,
}

/// Why a stage has to be computed.
#[derive(Clone, Debug)]
pub enum Reason {
    /// The reason wasn't asked for.
    NotStored,
    /// It's forced.
    Forced,
    /// What the store has isn't what was written.
    Damaged(String),
    /// No stage of its kind was computed before.
    FirstOfItsKind(String),
    /// It differs from all that was computed before.
    Differs {
        /// The nearest run.
        nearest: Box<Artifact>,
        /// What differs from that.
        differences: Vec<Difference>,
    },
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotStored => f.write_str("it isn't stored"),
            Self::Forced => f.write_str("forced"),
            Self::Damaged(damage) => write!(f, "the stored artifact is damaged: {damage}"),
            Self::FirstOfItsKind(kind) => write!(f, "no {kind} stage was run before"),
            Self::Differs { differences, .. } => {
                let shown = if differences.len() > 3 { 2 } else { differences.len() };
                let changes: Vec<_> = differences[..shown].iter().map(ToString::to_string).collect();
                f.write_str(&changes.join("; "))?;
                match differences.len() - shown {
                    0 => Ok(()),
                    more => write!(f, "; and {more} more differences"),
                }
            }
        }
    }
}

impl Key {
    /// The key, where it's known.
    pub fn known(&self) -> Option<&str> {
        match self {
            Self::Known(key) => Some(key),
            Self::After(_) => None,
        }
    }
}

impl Status {
    /// In a word: hit, remote, miss or waits.
    pub fn word(&self) -> &'static str {
        match self {
            Self::Hit(_) => "hit",
            Self::Remote(_) => "remote",
            Self::Miss { .. } => "miss",
            Self::Waits => "waits",
        }
    }

    /// The artifact, where there is one already.
    pub fn artifact(&self) -> Option<&Artifact> {
        match self {
            Self::Hit(artifact) | Self::Remote(artifact) => Some(artifact),
            Self::Miss { .. } | Self::Waits => None,
        }
    }
}

impl Planned {
    /// What it will be computed from, as far as the outputs of the stages before it are known.
    pub fn manifest(&self, upstream: Upstream<'_>) -> Option<Manifest> {
        self.node.manifest(&self.files, upstream)
    }

    /// Whether it may be what a manifest stands for, whatever the stages before it give whose output isn't known.
    pub fn may_be(&self, manifest: &Manifest, upstream: Upstream<'_>) -> bool {
        let any = |need: &str| Some(upstream(need).unwrap_or_default());
        let Some(mut own) = self.node.manifest(&self.files, &any) else { return false };
        for (field, digest) in own.inputs.iter_mut().filter(|(_, digest)| digest.is_empty()) {
            *digest = manifest.inputs.get(field).cloned().unwrap_or_default();
        }
        own == *manifest
    }

    /// Whether it has to run, or may have to.
    pub fn is_missing(&self) -> bool {
        self.status.artifact().is_none()
    }
}

impl FromIterator<(String, Planned)> for Plan {
    fn from_iter<I: IntoIterator<Item = (String, Planned)>>(stages: I) -> Self {
        Self { stages: stages.into_iter().collect() }
    }
}

impl Plan {
    pub(super) fn insert(&mut self, id: String, planned: Planned) {
        self.stages.insert(id, planned);
    }

    /// The stages with their ids.
    pub fn stages(&self) -> impl ExactSizeIterator<Item = (&str, &Planned)> {
        self.stages.iter().map(|(id, planned)| (id.as_str(), planned))
    }

    /// A stage by its id.
    pub fn get(&self, id: &str) -> Option<&Planned> {
        self.stages.get(id)
    }

    /// The artifact of a stage, where there is one already.
    pub fn artifact(&self, id: &str) -> Option<&Artifact> {
        self.get(id)?.status.artifact()
    }

    /// The stages that have to run, or may have to.
    pub fn missing(&self) -> impl Iterator<Item = &Node> {
        self.stages.values().filter(|planned| planned.is_missing()).map(|planned| &planned.node)
    }

    /// How many stages there are.
    pub fn len(&self) -> usize {
        self.stages.len()
    }

    /// Whether there is no stage.
    pub fn is_empty(&self) -> bool {
        self.stages.is_empty()
    }

    /// The stages whose files would be fetched from the remote, since a stage that has to run, or may have to, reads them.
    pub fn fetched(&self) -> BTreeSet<&str> {
        let read: BTreeSet<&String> = self.missing().flat_map(|node| node.needs.values()).collect();
        let remote = self.stages.iter().filter(|(_, planned)| matches!(planned.status, Status::Remote(_)));
        remote.filter(|(id, _)| read.contains(id)).map(|(id, _)| id.as_str()).collect()
    }

    pub(crate) fn into_stages(self) -> IndexMap<String, Planned> {
        self.stages
    }
}
