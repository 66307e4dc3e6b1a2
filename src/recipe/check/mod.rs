//! What types can't say: references, files, rules between fields and sweeps; and for each stage what its kind checks.
//! Everything is looked at, also beside mistakes; only a stage whose types are wrong is left out where its fields are
//! needed.

mod files;
mod graph;
mod halving;
mod names;
mod sweep;
mod sweep_values;

use std::ops::Range;
use std::path::{Path, PathBuf};

use serde::de::DeserializeOwned;
use serde_json::Value as Json;

use super::diagnostic::Diagnostic;
use super::node::{Node, Value};
use super::place::{Span, Texts};
use super::shape::Slot;
use super::walk;
use super::{Catalog, Columns, DataFiles, Kind};
use crate::spec::{Source, Stage, Sweep};

/// The most stages that a recipe may have: references are followed one by one.
const MAX_STAGES: usize = 1_000;

/// A stage as far as it can be understood.
pub struct Draft {
    /// Its name.
    pub name: String,
    /// Its kind.
    pub kind: &'static dyn Kind,
    /// Its spec without the tag of its kind, and the slot of that.
    spec: Json,
    slot: &'static Slot,
    /// None if its types are wrong.
    pub(super) stage: Option<Stage>,
}

impl Draft {
    /// The pointer of the stage's settings, or of something in them such as `train.lr`.
    pub fn pointer(&self, field: &str) -> String {
        let dot = if field.is_empty() { "" } else { "." };
        format!("stages.{}.{}{dot}{field}", self.name, self.kind.name())
    }

    /// The settings with defaults filled in; none if their types are wrong.
    pub fn settings(&self) -> Option<&Json> {
        self.stage.as_ref().map(|stage| &stage.settings)
    }

    /// The same as their type has them; none for a stage of another kind, too.
    pub fn settings_as<T: DeserializeOwned>(&self) -> Option<T> {
        self.stage.as_ref()?.settings_as().ok()
    }
}

/// The stages of a tree whose kind is known.
pub(super) fn drafts(tree: &Node, catalog: &'static Catalog) -> Vec<Draft> {
    let stages = tree.get("stages").map(Node::entries).unwrap_or_default();
    let draft = |entry: &super::node::Entry| {
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

/// All that the checks look at, and where they report.
pub struct Checks<'a> {
    pub(super) catalog: &'static Catalog,
    pub(super) tree: &'a Node,
    pub(super) texts: &'a Texts,
    pub(super) drafts: &'a [Draft],
    pub(super) dir: &'a Path,
    pub(super) columns: &'a Columns<'a>,
    pub(super) problems: &'a mut Vec<Diagnostic>,
}

impl<'a> Checks<'a> {
    /// Makes all checks; gives the stages in an order in which each comes after those it refers to.
    pub(super) fn run(&mut self, sweep: Option<&Sweep>) -> Vec<String> {
        let stages = self.tree.get("stages").map(Node::entries).unwrap_or_default();
        if let Some(first) = stages.get(MAX_STAGES) {
            self.report(first.key_span, format!("more than {MAX_STAGES} stages"), None);
        }
        self.names();
        self.files();
        let order = self.graph();
        for draft in self.drafts.iter().filter(|draft| draft.stage.is_some()) {
            draft.kind.check(draft, self);
        }
        self.sweep(sweep);
        order
    }

    /// The place of a key, or of the nearest thing above it.
    pub fn key(&self, pointer: &str) -> Span {
        let (key, node) = self.nearest(pointer);
        key.unwrap_or(node.span)
    }

    /// The place of a value, or of the nearest key above it.
    pub fn value(&self, pointer: &str) -> Span {
        self.tree.find(pointer).map_or_else(|| self.key(pointer), |(_, node)| node.span)
    }

    /// The place of a part of a string value, given the value's own place.
    pub fn within(&self, whole: Span, value: &str, part: Range<usize>) -> Span {
        self.texts.within(whole, value, part)
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

    /// Whether the recipe itself has something there.
    pub fn is_given(&self, pointer: &str) -> bool {
        self.tree.find(pointer).is_some()
    }

    /// A value as it may be shown.
    pub fn shown(&self, pointer: &str) -> String {
        self.tree.find(pointer).map(|(_, node)| node.shown()).unwrap_or_default()
    }

    /// The entries of a mapping in the recipe's order: the key, and the value's place and how it may be shown.
    pub fn entries(&self, pointer: &str) -> Vec<(&'a str, Span, String)> {
        let entries = self.tree.find(pointer).map(|(_, node)| node.entries()).unwrap_or_default();
        entries.iter().map(|entry| (entry.key.as_str(), entry.node.span, entry.node.shown())).collect()
    }

    /// Reports a mistake at a place.
    pub fn report(&mut self, at: Span, message: impl Into<String>, hint: impl Into<Option<String>>) {
        self.add(Diagnostic::new(message).at(at).hint(hint));
    }

    /// Reports a mistake.
    pub fn add(&mut self, problem: Diagnostic) {
        self.problems.push(problem);
    }

    /// Reports that two fields are there of which only one may be given.
    pub fn both(&mut self, one: &str, other: &str) {
        let name = |pointer: &str| pointer.rsplit('.').next().unwrap_or_default().to_owned();
        let message = format!("`{}` and `{}` are both given", name(one), name(other));
        let (first, second) = (self.key(one).min(self.key(other)), self.key(one).max(self.key(other)));
        self.add(Diagnostic::new(message).at(second).also(first, "the other").hint("keep one of the two".to_owned()));
    }

    /// The stage of a name.
    pub fn stage(&self, name: &str) -> Option<&'a Draft> {
        self.drafts.iter().find(|draft| draft.name == name)
    }

    /// How many stages there are.
    pub fn count(&self) -> usize {
        self.drafts.len()
    }

    /// The first of the files that a source stands for, if there is one.
    pub fn first_file(&self, source: &Source) -> Option<PathBuf> {
        walk::resolve_path(&source.path, self.dir).ok()?.into_iter().next()
    }

    /// The columns of the files that a source stands for, if they can be known; of those that rows may lack, the ones that
    /// are wanted are looked for in all rows.
    pub fn columns(&self, source: &Source, wanted: &[String]) -> Option<Vec<String>> {
        let files = walk::resolve_path(&source.path, self.dir).ok()?;
        (self.columns)(source, &DataFiles { files, wanted: wanted.to_vec() })
    }

    /// The directory that a field names, if it's there.
    pub fn directory(&self, path: &str) -> Option<PathBuf> {
        walk::resolve_place(path, self.dir)
    }

    /// The kinds of stages that there are.
    pub(super) fn kinds_making(&self, product: crate::spec::Product) -> Vec<&'static str> {
        self.catalog.kinds().iter().filter(|kind| kind.products().contains(&product)).map(|kind| kind.name()).collect()
    }
}
