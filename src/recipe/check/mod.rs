//! What types can't say: references, files, rules between fields, templates and sweeps. Everything is looked at, also
//! beside mistakes; only a stage whose types are wrong is left out where its fields are needed.

mod asha;
mod families;
mod files;
mod graph;
mod names;
mod objectives;
mod rows;
mod stages;
mod sweep;
mod sweep_values;

use std::path::Path;

use anyhow::{Context, Result};
use serde_json::Value as Json;

use super::diagnostic::Diagnostic;
use super::node::{Node, Value};
use super::place::{Span, Texts};
use super::shape::Slot;
use super::walk;
use super::{Catalog, Columns};
use crate::network::checkpoint::{self, CONFIG};
use crate::network::model::{self, Family, Outline};
use crate::spec::{Origin, Stage, Sweep};

/// The most stages that a recipe may have: references are followed one by one.
const MAX_STAGES: usize = 1_000;

/// A stage as far as it can be understood.
pub(super) struct Draft {
    pub(super) name: String,
    pub(super) kind: String,
    /// Its spec without the tag of its kind, and the slot of that.
    spec: Json,
    slot: &'static Slot,
    /// None if its types are wrong.
    pub(super) stage: Option<Stage>,
}

impl Draft {
    /// The pointer of the stage's spec, or of something in it.
    fn pointer(&self, field: &str) -> String {
        let dot = if field.is_empty() { "" } else { "." };
        format!("stages.{}.{}{dot}{field}", self.name, self.kind)
    }
}

/// The stages of a tree whose kind is known.
pub(super) fn drafts(tree: &Node, catalog: &'static Catalog) -> Vec<Draft> {
    let stages = tree.get("stages").map(Node::entries).unwrap_or_default();
    let draft = |entry: &super::node::Entry| {
        let [tagged] = entry.node.entries() else { return None };
        let slot = catalog.stage().child(&tagged.key)?;
        let stage = if tagged.node.any(&|node| node.value == Value::Unknown) {
            None
        } else {
            catalog.read_stage(entry.node.to_json()).ok()
        };
        let (name, kind) = (entry.key.clone(), tagged.key.clone());
        Some(Draft { name, kind, spec: tagged.node.to_json(), slot, stage })
    };
    stages.iter().take(MAX_STAGES).filter_map(draft).collect()
}

/// All that the checks look at, and where they report.
pub(super) struct Check<'a> {
    pub(super) catalog: &'static Catalog,
    pub(super) tree: &'a Node,
    pub(super) texts: &'a Texts,
    pub(super) drafts: &'a [Draft],
    pub(super) dir: &'a Path,
    pub(super) columns: &'a Columns<'a>,
    pub(super) problems: &'a mut Vec<Diagnostic>,
}

impl<'a> Check<'a> {
    /// Makes all checks; gives the stages in an order in which each comes after those it refers to.
    pub(super) fn run(&mut self, sweep: Option<&Sweep>) -> Vec<String> {
        let stages = self.tree.get("stages").map(Node::entries).unwrap_or_default();
        if let Some(first) = stages.get(MAX_STAGES) {
            self.report(first.key_span, format!("more than {MAX_STAGES} stages"), None);
        }
        self.names();
        self.files();
        let order = self.graph();
        for draft in self.drafts {
            match &draft.stage {
                Some(Stage::Tokenize(spec)) => self.tokenize(draft, spec),
                Some(Stage::Pretrain(spec)) => self.pretrain(draft, spec),
                Some(Stage::Finetune(spec)) => self.finetune(draft, spec),
                Some(Stage::Eval(spec)) => self.eval(draft, spec),
                Some(Stage::Export(spec)) => self.export(draft, spec),
                Some(Stage::Import(_)) => {}
                None => {}
            }
        }
        self.sweep(sweep);
        order
    }

    /// The place of a key, or of the nearest thing above it.
    fn key(&self, pointer: &str) -> Span {
        let (key, node) = self.nearest(pointer);
        key.unwrap_or(node.span)
    }

    /// The place of a value, or of the nearest key above it.
    fn value(&self, pointer: &str) -> Span {
        self.tree.find(pointer).map_or_else(|| self.key(pointer), |(_, node)| node.span)
    }

    fn nearest(&self, pointer: &str) -> (Option<Span>, &'a Node) {
        let mut pointer = pointer;
        loop {
            if let Some(found) = self.tree.find(pointer) {
                return found;
            }
            match pointer.rsplit_once('.') {
                Some((above, _)) => pointer = above,
                None => return (None, self.tree),
            }
        }
    }

    /// A value as it may be shown.
    fn shown(&self, pointer: &str) -> String {
        self.tree.find(pointer).map(|(_, node)| node.shown()).unwrap_or_default()
    }

    fn report(&mut self, at: Span, message: impl Into<String>, hint: impl Into<Option<String>>) {
        self.problems.push(Diagnostic::new(message).at(at).hint(hint));
    }

    fn draft(&self, name: &str) -> Option<&'a Draft> {
        self.drafts.iter().find(|draft| draft.name == name)
    }

    /// The model that a stage begins with, through all its `from`, and the stage that makes or reads it.
    fn origin_of(&self, draft: &Draft) -> Option<(String, Known)> {
        let mut draft = draft;
        // A cycle of `from` ends after as many steps as there are stages.
        for _ in self.drafts {
            let (from, model) = match draft.stage.as_ref()? {
                Stage::Pretrain(spec) => (spec.from.as_ref(), spec.model.as_ref()),
                Stage::Finetune(spec) => (spec.from.as_ref(), spec.model.as_ref()),
                Stage::Import(spec) => return Some((draft.name.clone(), self.known(&spec.path)?)),
                _ => return None,
            };
            match (from, model) {
                (None, Some(model)) => {
                    let family = model::families::of_spec(model).ok()?;
                    let known = Known { family, max_length: Some(family.max_length(&model.settings).ok()?) };
                    return Some((draft.name.clone(), known));
                }
                (Some(Origin::Stage(from)), None) => draft = self.draft(from)?,
                (Some(Origin::Checkpoint(from)), None) => {
                    return Some((draft.name.clone(), self.known(&from.checkpoint)?));
                }
                _ => return None,
            }
        }
        None
    }

    /// What the `config.json` of a checkpoint says of its model.
    fn known(&self, directory: &str) -> Option<Known> {
        let outline = outline(&walk::resolve_place(directory, self.dir)?).ok()?;
        let sizes = outline.architecture().sizes();
        Some(Known { family: outline.family(), max_length: sizes.positions.map(|_| sizes.max_length) })
    }
}

/// What is known of a model before it's there.
#[derive(Clone, Copy, Debug)]
pub(super) struct Known {
    pub(super) family: &'static Family,
    /// The longest sequence; none where the model takes any.
    pub(super) max_length: Option<usize>,
}

/// The shapes of the model in a checkpoint's directory, from its `config.json` alone.
fn outline(directory: &Path) -> Result<Outline> {
    let path = checkpoint::base(directory).join(CONFIG);
    let config: Json = serde_json::from_slice(&fs_err::read(&path)?).context("it isn't JSON")?;
    Outline::of_config(&config)
}
