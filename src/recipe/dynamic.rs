//! Values on their way from the recipe's tree to the expressions' engine, and back.

use std::sync::Arc;

use minijinja::{Value as Dynamic, value::ValueKind};

use super::{
    node::{Entry, Node, Value},
    place::Span,
    written::{self, Written},
};

/// Marks all of a node as an expression's, whose text is shown in its place.
pub(super) fn mark(node: &mut Node, original: &Arc<str>) {
    node.original = Some(Arc::clone(original));
    match &mut node.value {
        Value::Seq(items) => items.iter_mut().for_each(|item| mark(item, original)),
        Value::Map(entries) => entries.iter_mut().for_each(|entry| mark(&mut entry.node, original)),
        _ => {}
    }
}

/// A node's value; with `written`, scalars know how they were written where they'd be written otherwise.
pub(super) fn dynamic(node: &Node, written: bool) -> Dynamic {
    let value = value_of(node, written);
    match &node.written {
        Some(text) if written && !matches!(node.value, Value::String(_)) && value.to_string() != **text => {
            Dynamic::from_object(Written { value, text: Arc::clone(text) })
        }
        _ => value,
    }
}

fn value_of(node: &Node, written: bool) -> Dynamic {
    match &node.value {
        Value::Null | Value::Unknown => Dynamic::from(()),
        Value::Bool(value) => Dynamic::from(*value),
        Value::Int(value) => i64::try_from(*value).map_or_else(|_| Dynamic::from(*value), Dynamic::from),
        Value::Float(value) => Dynamic::from(*value),
        Value::String(text) => Dynamic::from(text.as_str()),
        Value::Seq(items) => items.iter().map(|item| dynamic(item, written)).collect(),
        Value::Map(entries) => {
            Dynamic::from_pairs(entries.iter().map(|entry| (entry.key.as_str(), dynamic(&entry.node, written))))
        }
    }
}

/// The node of what an expression gave.
pub(super) fn concrete(value: &Dynamic, span: Span) -> Node {
    if written::is_within(value) {
        return concrete_written(value, span);
    }
    let mut node = plain(value, span);
    // Where a number is wanted, what was put together as text may still be one; and where a text is, a value is written as it
    // would be within one.
    if matches!(node.value, Value::String(_) | Value::Bool(_) | Value::Int(_) | Value::Float(_)) {
        node.written = Some(value.to_string().into());
    }
    node
}

/// The node of a value that has scalars in it which know how they were written.
fn concrete_written(value: &Dynamic, span: Span) -> Node {
    if let Some(written) = value.downcast_object_ref::<Written>() {
        return Node { written: Some(Arc::clone(&written.text)), ..plain(&written.value, span) };
    }
    let items = || value.try_iter().into_iter().flatten();
    match value.kind() {
        ValueKind::Map => {
            let entry = |key: Dynamic| {
                let node = concrete(&value.get_item(&key).unwrap_or_default(), span);
                Entry { key: key.to_string(), key_span: span, node }
            };
            let mut entries: Vec<Entry> = items().map(entry).collect();
            // As everywhere in what expressions give.
            entries.sort_by(|a, b| a.key.cmp(&b.key));
            Node::new(span, Value::Map(entries))
        }
        _ => Node::new(span, Value::Seq(items().map(|item| concrete(&item, span)).collect())),
    }
}

fn plain(value: &Dynamic, span: Span) -> Node {
    if value.kind() == ValueKind::Number
        && !value.is_integer()
        && let Ok(float) = f64::try_from(value.clone())
    {
        return Node::new(span, Value::Float(float));
    }
    match serde_json::to_value(value) {
        Ok(json) => Node::from_json(json, span),
        Err(_) => Node::new(span, Value::String(value.to_string())),
    }
}
