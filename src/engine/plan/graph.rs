//! A graph of stages, in an order in which they can run.

use std::collections::BTreeSet;

use anyhow::{Result, bail};
use indexmap::IndexMap;

use super::Node;
use crate::support::{Hinted, suggest};

/// Stages by id, each after those that it needs. The id of a recipe's stage is its name; in a sweep, where stages of
/// several cells may have the same name, ids tell them apart. Needs are ids.
#[derive(Clone, Debug, Default)]
pub struct Graph {
    nodes: IndexMap<String, Node>,
}

impl From<IndexMap<String, Node>> for Graph {
    /// Of stages that each come after those that they need.
    fn from(nodes: IndexMap<String, Node>) -> Self {
        Self { nodes }
    }
}

impl Graph {
    /// The stages.
    pub fn nodes(&self) -> impl DoubleEndedIterator<Item = &Node> {
        self.nodes.values()
    }

    /// The stages with their ids.
    pub fn by_id(&self) -> &IndexMap<String, Node> {
        &self.nodes
    }

    /// A stage by its id.
    pub fn get(&self, id: &str) -> Option<&Node> {
        self.nodes.get(id)
    }

    /// Adds a stage; those that it needs have to be there.
    pub(super) fn insert(&mut self, id: String, node: Node) {
        self.nodes.insert(id, node);
    }

    /// The named stages and everything that they need; all of them if none is named.
    ///
    /// # Errors
    /// If there is no such stage.
    pub fn select<'a>(&mut self, ids: impl IntoIterator<Item = &'a str>) -> Result<()> {
        let mut wanted = BTreeSet::new();
        let mut queue: Vec<&str> = ids.into_iter().collect();
        if queue.is_empty() {
            return Ok(());
        }
        while let Some(id) = queue.pop() {
            let Some(node) = self.nodes.get(id) else { bail!(self.no_such_stage(id)) };
            if wanted.insert(id.to_owned()) {
                queue.extend(node.needs.values().map(String::as_str));
            }
        }
        self.nodes.retain(|id, _| wanted.contains(id));
        Ok(())
    }

    /// The error for a name that isn't a stage's.
    pub fn no_such_stage(&self, name: &str) -> Hinted {
        let hint = suggest::did_you_mean(name, self.nodes.keys().map(String::as_str), "the stages are");
        Hinted::new(format!("there is no stage `{name}`"), hint)
    }
}
