//! `--set dotted.path=value`: finds the place that a dotted path means, and puts a value there. The grid of a sweep
//! uses the same paths.

use std::ops::Range;
use std::sync::Arc;

use serde_json::Value as Json;

use super::diagnostic::Diagnostic;
use super::node::{Entry, Node, Value};
use super::place::{Span, Text, Texts};
use super::shape::{Shape, Slot};
use super::{source, suggest, template, typecheck};

/// A value that a sweep puts somewhere, and where it stands in the recipe.
#[derive(Clone, Debug, PartialEq)]
pub struct Setting {
    /// The value.
    pub value: Json,
    /// How it was written, where it's a plain scalar: what it is as a text.
    pub written: Option<Arc<str>>,
    /// Its place.
    pub place: Span,
}

impl Setting {
    fn node(&self) -> Node {
        match (&self.value, &self.written) {
            // Values that only their texts tell apart: each still is of the type that it looks like.
            (Json::String(text), Some(written)) if **text == **written => super::scalar::plain(self.place, written),
            (value, written) => Node { written: written.clone(), ..Node::from_json(value.clone(), self.place) },
        }
    }
}

/// Where a dotted path leads.
#[derive(Debug)]
pub(super) struct Target {
    steps: Vec<Step>,
    /// What may stand there.
    pub(super) slot: &'static Slot,
}

#[derive(Debug, PartialEq)]
enum Step {
    Key(String),
    /// The key of a variant, which goes before any other that's there.
    Variant(String),
    Index(usize),
}

impl Target {
    /// Whether the other leads to the same place.
    pub(super) fn is(&self, other: &Self) -> bool {
        self.steps == other.steps
    }
}

/// Why a dotted path leads nowhere.
#[derive(Debug)]
pub(super) enum Miss {
    /// It leads into the result of an expression (or of a broken one).
    Expression,
    /// One of its parts is wrong.
    Wrong { part: Range<usize>, message: String, hint: Option<String> },
}

/// Puts a sweep's settings where their paths lead, each at its place in the recipe: a mistake in it is shown there.
pub(super) fn set<'a>(
    tree: &mut Node,
    recipe: &'static Slot,
    settings: impl IntoIterator<Item = (&'a String, &'a Setting)>,
) {
    for (path, setting) in settings {
        // The recipe's check has been over the paths.
        if let Ok(target) = resolve(tree, recipe, path) {
            assign(tree, &target.steps, setting.node(), setting.place);
        }
    }
}

/// Applies flags; those that lead into expressions come back, to be tried when these are filled in.
pub(super) fn apply<'a>(
    tree: &mut Node,
    recipe: &'static Slot,
    texts: &mut Texts,
    sets: impl IntoIterator<Item = &'a (String, String)>,
    problems: &mut Vec<Diagnostic>,
) -> Vec<&'a (String, String)> {
    let mut later = Vec::new();
    for set in sets {
        let (path, value) = set;
        match resolve(tree, recipe, path) {
            Err(Miss::Expression) => later.push(set),
            Err(Miss::Wrong { part, message, hint }) => {
                let number = texts.push(Text::flag(format!("--set {path}={value}")));
                let start = "--set ".len();
                problems.push(
                    Diagnostic::new(message).at(Span::new(number, start + part.start, start + part.end)).hint(hint),
                );
            }
            Ok(target) => {
                let text = Text::flag(format!("--set {path}={value}"));
                let start = "--set ".len();
                let equals = start + path.len();
                let number = texts.push(text);
                let node = parse(value, number, equals + 1, texts, problems);
                assign(tree, &target.steps, node, Span::new(number, start, equals));
            }
        }
    }
    later
}

/// The value of a `--var`: a scalar, or something that's plainly YAML.
pub(super) fn scalar(value: &str, number: u32, offset: usize, texts: &Texts) -> Node {
    let span = Span::new(number, offset, offset + value.len());
    if value.starts_with(['"', '\'', '[', '{']) && !value.starts_with("{{") {
        let text = texts.of(span);
        if let Some(node) = source::parse(text, number, offset, &mut Vec::new()) {
            return node;
        }
    }
    super::scalar::plain(span, value)
}

/// The value of a `--set`: any YAML, or an expression.
fn parse(value: &str, number: u32, offset: usize, texts: &Texts, problems: &mut Vec<Diagnostic>) -> Node {
    let span = Span::new(number, offset, offset + value.len());
    if value.starts_with("{{") {
        return Node::new(span, Value::String(value.to_owned()));
    }
    let before = problems.len();
    match source::parse(texts.of(span), number, offset, problems) {
        Some(node) => node,
        None if problems.len() == before => Node::new(span, Value::Null),
        None => Node::new(span, Value::Unknown),
    }
}

/// Finds what a dotted path such as `stages.base.train.lr` means. The key of a variant that the recipe has, such as a
/// stage's kind, may be left out; entries of lists go by number.
pub(super) fn resolve(tree: &Node, recipe: &'static Slot, path: &str) -> Result<Target, Miss> {
    let mut finder =
        Finder { node: Some(tree), slot: recipe, steps: Vec::new(), name: typecheck::ROOT.into(), depth: 0 };
    let mut start = 0;
    while start <= path.len() {
        let end = path[start..].find('.').map_or(path.len(), |at| start + at);
        start = finder.part(path, start..end)? + 1;
    }
    Ok(Target { steps: finder.steps, slot: finder.slot })
}

struct Finder<'a> {
    node: Option<&'a Node>,
    slot: &'static Slot,
    steps: Vec<Step>,
    name: String,
    depth: usize,
}

impl Finder<'_> {
    fn go(&mut self, step: Step, slot: &'static Slot) {
        match &step {
            Step::Key(key) | Step::Variant(key) => {
                self.node = self.node.and_then(|node| node.get(key));
                self.name.clone_from(key);
            }
            Step::Index(index) => {
                self.node = match self.node.map(|node| &node.value) {
                    Some(Value::Seq(items)) => items.get(*index),
                    _ => None,
                };
            }
        }
        self.slot = slot;
        self.depth += 1;
        self.steps.push(step);
    }

    /// Takes one part, and says where it ends: keys with dots take the rest of the path.
    fn part(&mut self, path: &str, part: Range<usize>) -> Result<usize, Miss> {
        let word = &path[part.clone()];
        let wrong = |message: String, hint: Option<String>| {
            Err(Miss::Wrong { part: if part.is_empty() { 0..path.len() } else { part.clone() }, message, hint })
        };
        match self.node.map(|node| &node.value) {
            Some(Value::Unknown) => return Err(Miss::Expression),
            Some(Value::String(text)) if template::is_expression(text) => return Err(Miss::Expression),
            _ => {}
        }
        let name = self.name.clone();
        match &self.slot.meant(false).shape {
            Shape::Record(fields) => match fields.get(word) {
                Some(slot) => self.go(Step::Key(word.to_owned()), slot),
                None => {
                    let hint = suggest::did_you_mean(word, fields.keys().map(String::as_str), "the keys are");
                    return wrong(format!("{} has no key `{word}`", typecheck::called(&name)), hint);
                }
            },
            Shape::Choice(variants) => {
                let present = self.node.map(Node::entries).and_then(|entries| match entries {
                    [only] => variants.iter().find(|(variant, _)| *variant == only.key),
                    _ => None,
                });
                let named = variants.iter().find(|(variant, _)| variant == word);
                match (named, present) {
                    (Some((kind, _)), Some((other, _))) if self.depth == 2 && kind != other => {
                        return wrong(
                            format!("`{name}` is a {other} stage, not a {kind} stage"),
                            Some(format!("write `{other}`, or leave the kind out")),
                        );
                    }
                    (Some((kind, Some(slot))), _) => self.go(Step::Variant(kind.clone()), slot),
                    (Some((kind, None)), _) => {
                        return wrong(
                            format!("`{kind}` is a value, not a key"),
                            Some(format!("write `{name}={kind}`")),
                        );
                    }
                    (None, Some((kind, Some(slot)))) => {
                        self.go(Step::Variant(kind.clone()), slot);
                        return self.part(path, part);
                    }
                    _ => {
                        let names = variants.iter().map(|(name, _)| name.as_str());
                        let hint = suggest::did_you_mean(word, names, "it takes one of");
                        return wrong(format!("`{name}` has no kind `{word}`"), hint);
                    }
                }
            }
            Shape::Map { value, .. } => match &value.shape {
                // Labels and paths may have dots of their own.
                Shape::Text { .. } | Shape::List { .. } | Shape::Either { .. } => {
                    self.go(Step::Key(path[part.start..].to_owned()), value);
                    return Ok(path.len());
                }
                _ => {
                    let entries = self.node.map(Node::entries).unwrap_or_default();
                    if entries.iter().all(|entry| entry.key != word) {
                        let names = entries.iter().map(|entry| entry.key.as_str());
                        let what = if name == "stages" { "stage" } else { "var" };
                        let hint = suggest::did_you_mean(word, names, &format!("the {what}s are"));
                        return wrong(format!("the recipe has no {what} `{word}`"), hint);
                    }
                    self.go(Step::Key(word.to_owned()), value);
                }
            },
            Shape::List { item, .. } => {
                let length = match self.node.map(|node| &node.value) {
                    Some(Value::Seq(items)) => items.len(),
                    _ => 0,
                };
                match word.parse::<usize>() {
                    Ok(index) if index < length => self.go(Step::Index(index), item),
                    _ => {
                        let hint = match length {
                            0 => "the list is empty".to_owned(),
                            1 => "it has one entry, number 0".to_owned(),
                            _ => format!("it has entries 0 to {}", length - 1),
                        };
                        return wrong(format!("`{name}` has no entry `{word}`"), Some(hint));
                    }
                }
            }
            // Inside a var, which may hold anything.
            Shape::Any => match self.node.map(|node| &node.value) {
                Some(Value::Map(_)) => self.go(Step::Key(word.to_owned()), self.slot),
                Some(Value::Seq(items)) if word.parse().is_ok_and(|index: usize| index < items.len()) => {
                    self.go(Step::Index(word.parse().unwrap_or_default()), self.slot);
                }
                _ => return wrong(format!("`{name}` has nothing under `{word}`"), None),
            },
            _ => return wrong(format!("`{name}` takes {}, and has no keys", self.slot.wanted()), None),
        }
        Ok(part.end)
    }
}

/// Puts a value where the steps lead, making the mappings on the way that aren't there.
fn assign(tree: &mut Node, steps: &[Step], value: Node, span: Span) {
    let Some((step, rest)) = steps.split_first() else {
        *tree = value;
        return;
    };
    if let Step::Index(index) = step {
        if let Value::Seq(items) = &mut tree.value
            && let Some(item) = items.get_mut(*index)
        {
            assign(item, rest, value, span);
        }
        return;
    }
    let (Step::Key(key) | Step::Variant(key)) = step else { return };
    if !matches!(tree.value, Value::Map(_)) {
        *tree = Node::new(span, Value::Map(Vec::new()));
    }
    let Value::Map(entries) = &mut tree.value else { return };
    if matches!(step, Step::Variant(_)) {
        entries.retain(|entry| entry.key == *key);
    }
    let at = entries.iter().position(|entry| entry.key == *key).unwrap_or_else(|| {
        entries.push(Entry { key: key.clone(), key_span: span, node: Node::new(span, Value::Null) });
        entries.len() - 1
    });
    if rest.is_empty() {
        entries[at].key_span = span;
    }
    assign(&mut entries[at].node, rest, value, span);
}
