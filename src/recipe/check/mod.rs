//! What types can't say: references, files, rules between fields and sweeps; and for each stage what its kind checks.
//! Everything is looked at, also beside mistakes; only a stage whose types are wrong is left out where its fields are
//! needed.

mod expect;
mod files;
mod graph;
mod halving;
mod names;
mod sweep;
mod sweep_values;

use super::node::{Entry, Node, Value};
use super::{Catalog, Checks, Draft};
use crate::spec::Sweep;

/// The most stages that a recipe may have: references are followed one by one.
const MAX_STAGES: usize = 1_000;

/// The stages of a tree whose kind is known.
pub(super) fn drafts(tree: &Node, catalog: &'static Catalog) -> Vec<Draft> {
    let stages = tree.get("stages").map(Node::entries).unwrap_or_default();
    let draft = |entry: &Entry| {
        let [tagged] = entry.node.entries() else { return None };
        let kind = catalog.kind(&tagged.key)?;
        let slot = catalog.stage().child(&tagged.key)?;
        let stage = if tagged.node.any(&|node| node.value == Value::Unknown) {
            None
        } else {
            catalog.read_stage(entry.node.to_json()).ok()
        };
        Some(Draft { name: entry.key.clone(), kind, spec: tagged.node.to_json(), slot, stage })
    };
    stages.iter().take(MAX_STAGES).filter_map(draft).collect()
}

impl Checks<'_> {
    /// Makes all checks; gives the stages in an order in which each comes after those it refers to.
    pub(super) fn run(&mut self, catalog: &'static Catalog, sweep: Option<&Sweep>) -> Vec<String> {
        let stages = self.tree.get("stages").map(Node::entries).unwrap_or_default();
        if let Some(first) = stages.get(MAX_STAGES) {
            self.report(first.key_span, format!("more than {MAX_STAGES} stages"), None);
        }
        self.names();
        self.files(catalog);
        let order = self.graph(catalog);
        for draft in self.drafts.iter().filter(|draft| draft.stage.is_some()) {
            if let Some(kind) = catalog.kind(draft.kind.name()) {
                kind.check(draft, self);
            }
            self.expectations(catalog, draft);
        }
        self.sweep(catalog, sweep);
        order
    }
}
