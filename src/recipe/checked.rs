//! A recipe without mistakes, with what is needed to speak about its places later.

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;

use serde_json::Value as Json;

use super::node::Node;
use super::place::{Span, Texts};
use super::secret::Secrets;
use super::{Catalog, Diagnostic, Diagnostics, walk};
use crate::spec::Recipe;

/// A recipe in which everything that can be known before it runs is right.
#[derive(Clone)]
pub struct Checked {
    /// The recipe; `vars` that come from `env()` are replaced, as in [`Checked::secrets`].
    pub recipe: Recipe,
    /// Its file, as the user named it.
    pub path: PathBuf,
    /// The folder of its file; may be empty.
    pub dir: PathBuf,
    /// The stages' names, each after all that it refers to; otherwise in the recipe's order.
    pub order: Vec<String>,
    pub(super) catalog: &'static Catalog,
    pub(super) secrets: Secrets,
    pub(super) tree: Node,
    pub(super) texts: Texts,
    pub(super) warnings: Vec<Diagnostic>,
}

impl Checked {
    /// What the recipe could name.
    pub fn catalog(&self) -> &'static Catalog {
        self.catalog
    }

    /// What the recipe says in a way that is no longer recommended, each with its place and what to write instead.
    pub fn notes(&self) -> Vec<String> {
        let sweep = self.recipe.sweep.as_ref().filter(|sweep| sweep.asha.is_some());
        let (line, column) = self.place("sweep.asha");
        let path = self.path.display();
        let note = || format!("{path}:{line}:{column}: `asha` is called `successive_halving` now: rename the key");
        sweep.map(|_| note()).into_iter().collect()
    }

    /// What the recipe can be run with and is hardly meant, each with its place; none if there's nothing of the kind.
    pub fn warnings(&self) -> Option<Diagnostics> {
        (!self.warnings.is_empty()).then(|| Diagnostics::new(self.texts.clone(), self.warnings.clone()))
    }

    /// Whether the recipe itself has a stage of this name, rather than that another one needs it.
    pub fn writes(&self, stage: &str) -> bool {
        self.tree.get("stages").is_some_and(|stages| stages.get(stage).is_some())
    }

    /// The recipe's text, as it was read.
    pub fn text(&self) -> &str {
        self.texts.file().body()
    }

    /// By pointer (such as `stages.base.tokenize.corpus.0.path`): what stands in manifests for a value that came out
    /// of `env()`, the expression and a hash of the value.
    pub fn secrets(&self) -> &BTreeMap<String, String> {
        &self.secrets.replacements
    }

    /// A text with the expression of every secret in place of its value: for messages that others made.
    pub fn scrub(&self, text: &str) -> String {
        self.secrets.scrub(text)
    }

    /// Secret values, each with the expression that stands for it.
    pub(crate) fn secret_values(&self) -> &[(String, String)] {
        self.secrets.values()
    }

    /// A stage's spec as its key sees it: [`walk::canonical`], with secrets replaced. None if there's no such stage.
    pub fn canonical(&self, stage: &str) -> Option<Json> {
        self.kept(stage, false)
    }

    /// A stage's spec for people: [`walk::described`], with secrets replaced. None if there's no such stage.
    pub fn described(&self, stage: &str) -> Option<Json> {
        self.kept(stage, true)
    }

    fn kept(&self, name: &str, defaults: bool) -> Option<Json> {
        let stage = self.recipe.stages.get(name)?;
        let (mut spec, slot) = walk::spec_of(self.catalog, stage);
        self.secrets.redact(&mut spec, &mut format!("stages.{name}.{}", stage.kind));
        Some(walk::kept(spec, slot, defaults))
    }

    /// The place of a value, or of the nearest key above it. The kind of a stage may be left out of the pointer:
    /// `stages.base.train.lr`.
    pub fn span(&self, pointer: &str) -> Span {
        let mut pointer = pointer;
        loop {
            match (self.tree.find(pointer), pointer.rsplit_once('.')) {
                (Some((_, node)), _) if node.entries().is_empty() => return node.span,
                (Some((key, node)), _) => return key.unwrap_or(node.span),
                (None, Some((above, _))) => pointer = above,
                (None, None) => return self.tree.span,
            }
        }
    }

    /// Line and column of [`Checked::span`], from 1.
    pub fn place(&self, pointer: &str) -> (usize, usize) {
        let span = self.span(pointer);
        self.texts.of(span).place(span.start as usize)
    }

    /// How a plain scalar was written; none for everything else.
    pub fn written(&self, pointer: &str) -> Option<Arc<str>> {
        self.tree.find(pointer).and_then(|(_, node)| node.written.clone())
    }

    /// A value as it stands in the recipe, with secrets as their expressions; empty if there is none.
    pub fn shown(&self, pointer: &str) -> String {
        self.tree.find(pointer).map(|(_, node)| node.shown()).unwrap_or_default()
    }

    /// A mistake that came to light later, such as a label in the data without a word, at its place in the recipe.
    pub fn diagnose(&self, pointer: &str, message: impl Into<String>, hint: impl Into<Option<String>>) -> Diagnostics {
        self.told(Diagnostic::new(message).at(self.span(pointer)).hint(hint))
    }

    /// As [`Checked::diagnose`], for what the recipe can be run with.
    pub fn warn(&self, pointer: &str, message: impl Into<String>, hint: impl Into<Option<String>>) -> Diagnostics {
        self.told(Diagnostic::new(message).at(self.span(pointer)).hint(hint).warning())
    }

    fn told(&self, problem: Diagnostic) -> Diagnostics {
        let mut problems = [problem];
        self.secrets.scrub_all(&mut problems);
        Diagnostics::new(self.texts.clone(), problems.into())
    }
}

impl fmt::Debug for Checked {
    /// Without values, for some may be secret.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Checked").field("path", &self.path).field("order", &self.order).finish_non_exhaustive()
    }
}
