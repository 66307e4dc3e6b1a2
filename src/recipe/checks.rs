//! What the checks of a recipe look at, and where they report: its values with their places, its stages and its files.

use std::{
    any::{Any, TypeId},
    cell::RefCell,
    collections::HashMap,
    convert::Infallible,
    ops::Range,
    path::{Path, PathBuf},
    sync::Arc,
};

use super::node::Node;
use super::paths;
use super::place::{Span, Texts};
use super::{Chains, Diagnostic, Draft, Step};
use crate::spec::Source;

/// Tells the columns of a source's files, or none if they cannot be known.
pub type Columns<'a> = dyn Fn(&Source, &DataFiles) -> Option<Vec<String>> + 'a;

/// Files of rows, and what is wanted of them.
#[derive(Clone, Debug)]
pub struct DataFiles {
    /// The files.
    pub files: Vec<PathBuf>,
    /// Columns that are asked for; of formats whose rows have columns of their own they are looked for in all rows.
    pub wanted: Vec<String>,
}

/// All that the checks look at, and where they report.
pub struct Checks<'a> {
    pub(super) tree: &'a Node,
    pub(super) texts: &'a Texts,
    pub(super) drafts: &'a [Draft],
    pub(super) dir: &'a Path,
    pub(super) columns: &'a Columns<'a>,
    pub(super) problems: &'a mut Vec<Diagnostic>,
    pub(super) warnings: &'a mut Vec<Diagnostic>,
    /// The [`Chains`] of each type that was asked for.
    pub(super) chains: RefCell<HashMap<TypeId, Box<dyn Any>>>,
}

impl<'a> Checks<'a> {
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

    /// Warns of something that the recipe can be run with.
    pub fn warn(&mut self, at: Span, message: impl Into<String>, hint: impl Into<Option<String>>) {
        self.warnings.push(Diagnostic::new(message).at(at).hint(hint).warning());
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

    /// What the chain of a stage begins with. `step`, which is always the same for a type, is asked about each stage once.
    pub fn beginning<T: 'static>(&self, draft: &Draft, step: impl Fn(&Draft) -> Step<T>) -> Option<Arc<T>> {
        let mut chains = self.chains.borrow_mut();
        let chains = chains.entry(TypeId::of::<T>()).or_insert_with(|| Box::new(Chains::<T>::default()));
        let step = |name: &str| Ok::<_, Infallible>(self.stage(name).map_or(Step::Nowhere, &step));
        chains.downcast_mut::<Chains<T>>()?.beginning(&draft.name, step).ok()?
    }

    /// The first of the files that a source stands for, if there is one.
    pub fn first_file(&self, source: &Source) -> Option<PathBuf> {
        paths::resolve_path(&source.place(), self.dir).ok()?.into_iter().next()
    }

    /// The columns of the files that a source stands for, if they can be known; of those that rows may lack, the ones that
    /// are wanted are looked for in all rows.
    pub fn columns(&self, source: &Source, wanted: &[String]) -> Option<Vec<String>> {
        let files = paths::resolve_path(&source.place(), self.dir).ok()?;
        (self.columns)(source, &DataFiles { files, wanted: wanted.to_vec() })
    }

    /// The directory that a field names, if it's there.
    pub fn directory(&self, path: &str) -> Option<PathBuf> {
        paths::resolve_place(path, self.dir)
    }
}
