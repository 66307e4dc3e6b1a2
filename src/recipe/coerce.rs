//! Scalars as the fields want them. Where a text is wanted, a plain scalar is the text that was written: `007`, `1.10`,
//! `true`. Where a number or a boolean is wanted, a text that an expression made is read as one.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::flags;
use super::node::{Entry, Node, Value};
use super::place::Span;
use super::scalar;
use super::shape::{Shape, Slot};

/// Turns all scalars of a recipe's tree into what their fields want; those that don't fit stay, and are reported.
pub(super) fn recipe(tree: &mut Node, slot: &'static Slot) {
    fit(tree, slot);
    sweep(tree, slot);
}

fn fit(node: &mut Node, slot: &Slot) {
    match &mut node.value {
        Value::Seq(items) => {
            if let Some(slot) = slot.meant(true).child("") {
                items.iter_mut().for_each(|item| fit(item, slot));
            }
        }
        Value::Map(entries) => {
            for entry in entries {
                if let Some(slot) = slot.child(&entry.key) {
                    fit(&mut entry.node, slot);
                }
            }
        }
        Value::Null if slot.nullable => {}
        _ => scalar_in(node, slot),
    }
}

fn scalar_in(node: &mut Node, slot: &Slot) {
    match &slot.meant(true).shape {
        Shape::Text { .. } => {
            if let Some(text) = node.as_text() {
                node.value = Value::String(text);
            }
        }
        shape @ (Shape::Integer(_) | Shape::Number(_) | Shape::Bool) => {
            if let (Value::String(text), Some(_)) = (&node.value, &node.written) {
                let value = scalar::resolve(text.trim());
                let fits = match shape {
                    Shape::Bool => matches!(value, Value::Bool(_)),
                    _ => matches!(value, Value::Int(_) | Value::Float(_)),
                };
                if fits {
                    node.value = value;
                }
            }
        }
        _ => {}
    }
}

/// A sweep's values are those of the fields that its paths lead to.
fn sweep(tree: &mut Node, recipe: &'static Slot) {
    let Value::Map(entries) = &mut tree.value else { return };
    let Some(at) = entries.iter().position(|entry| entry.key == "sweep") else { return };
    let mut sweep = std::mem::replace(&mut entries[at].node, Node::new(Span::default(), Value::Null));
    // By path, how each value of a var is written that is equal to another one.
    let mut spellings: BTreeMap<(String, String), BTreeSet<Arc<str>>> = BTreeMap::new();
    settings(&mut sweep, &mut |path, value| {
        let Ok(target) = flags::resolve(tree, recipe, path) else { return };
        fit(value, target.slot);
        if let (Shape::Any, Some(written)) = (&target.slot.shape, &value.written) {
            spellings.entry((path.to_owned(), value.to_json().to_string())).or_default().insert(Arc::clone(written));
        }
    });
    // `1.1` and `1.10` are two values for whoever tries both: they're told apart as they're written.
    spellings.retain(|_, written| written.len() > 1);
    settings(&mut sweep, &mut |path, value| {
        if let Some(written) = &value.written
            && spellings.keys().any(|(known, _)| known == path)
        {
            value.value = Value::String(written.to_string());
        }
    });
    if let Value::Map(entries) = &mut tree.value {
        entries[at].node = sweep;
    }
}

/// Goes over the single values of a sweep, each with its path.
pub(super) fn settings(sweep: &mut Node, found: &mut dyn FnMut(&str, &mut Node)) {
    let Value::Map(sections) = &mut sweep.value else { return };
    for Entry { key, node, .. } in sections {
        match (key.as_str(), &mut node.value) {
            ("list", Value::Seq(cells)) => {
                for cell in cells {
                    if let Value::Map(entries) = &mut cell.value {
                        entries.iter_mut().for_each(|entry| found(&entry.key, &mut entry.node));
                    }
                }
            }
            ("zip" | "grid", Value::Map(entries)) => entries.iter_mut().for_each(|entry| values(entry, found)),
            ("random" | "tpe", Value::Map(entries)) => {
                let drawn = entries.iter_mut().find(|entry| entry.key == "values");
                if let Some(Value::Map(entries)) = drawn.map(|entry| &mut entry.node.value) {
                    entries.iter_mut().for_each(|entry| values(entry, found));
                }
            }
            _ => {}
        }
    }
}

/// The values behind a path: those of a list, or of a `choice`.
fn values(entry: &mut Entry, found: &mut dyn FnMut(&str, &mut Node)) {
    let list = match &mut entry.node.value {
        Value::Seq(items) => items,
        Value::Map(range) => {
            match range.iter_mut().find(|entry| entry.key == "choice").map(|entry| &mut entry.node.value) {
                Some(Value::Seq(items)) => items,
                _ => return,
            }
        }
        _ => return,
    };
    list.iter_mut().for_each(|value| found(&entry.key, value));
}
