//! The recipe as a tree in which every key and every value knows its place.

use std::sync::Arc;

use serde_json::{Map, Value as Json};

use super::place::Span;

/// A value and its place.
#[derive(Clone, Debug)]
pub(super) struct Node {
    pub(super) span: Span,
    pub(super) value: Value,
    /// Where the value came out of an expression with `env()`: the expression, which is shown in its stead.
    pub(super) original: Option<Arc<str>>,
    /// How a plain scalar was written, which is what it is as a text. A text that came out of an expression has it, too:
    /// where a number is wanted, it's read as one.
    pub(super) written: Option<Arc<str>>,
}

/// What YAML can hold.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Value {
    Null,
    Bool(bool),
    Int(i128),
    Float(f64),
    String(String),
    Seq(Vec<Node>),
    Map(Vec<Entry>),
    /// Something that could not be worked out and was reported already.
    Unknown,
}

/// A key with its value.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Entry {
    pub(super) key: String,
    pub(super) key_span: Span,
    pub(super) node: Node,
}

impl PartialEq for Node {
    fn eq(&self, other: &Self) -> bool {
        self.value == other.value
    }
}

impl Node {
    pub(super) fn new(span: Span, value: Value) -> Self {
        Self { span, value, original: None, written: None }
    }

    /// A scalar as text: as it was written. None for nothing at all, and for lists and mappings.
    pub(super) fn as_text(&self) -> Option<String> {
        match (&self.value, &self.written) {
            (Value::String(text), _) => Some(text.clone()),
            (Value::Null, Some(written)) if written.is_empty() => None,
            (Value::Null | Value::Bool(_) | Value::Int(_) | Value::Float(_), Some(written)) => {
                Some(written.to_string())
            }
            (Value::Bool(_) | Value::Int(_) | Value::Float(_), None) => Some(self.to_json().to_string()),
            _ => None,
        }
    }

    /// A tree out of JSON, all of it at one place.
    pub(super) fn from_json(json: Json, span: Span) -> Self {
        let value = match json {
            Json::Null => Value::Null,
            Json::Bool(value) => Value::Bool(value),
            Json::Number(number) => match number.as_i128() {
                Some(whole) => Value::Int(whole),
                None => Value::Float(number.as_f64().unwrap_or(f64::NAN)),
            },
            Json::String(text) => Value::String(text),
            Json::Array(items) => Value::Seq(items.into_iter().map(|item| Self::from_json(item, span)).collect()),
            Json::Object(map) => Value::Map(
                map.into_iter()
                    .map(|(key, value)| Entry { key, key_span: span, node: Self::from_json(value, span) })
                    .collect(),
            ),
        };
        Self::new(span, value)
    }

    /// The tree as JSON, without places. What JSON can't hold becomes null.
    pub(super) fn to_json(&self) -> Json {
        match &self.value {
            Value::Null | Value::Unknown => Json::Null,
            Value::Bool(value) => Json::Bool(*value),
            Value::Int(value) => whole(*value),
            // A whole number may be written as 1e4.
            Value::Float(value) if value.fract() == 0.0 && value.abs() < 9e15 => whole(*value as i128),
            Value::Float(value) => Json::from(*value),
            Value::String(text) => Json::String(text.clone()),
            Value::Seq(items) => items.iter().map(Self::to_json).collect(),
            Value::Map(entries) => Json::Object(
                entries.iter().map(|entry| (entry.key.clone(), entry.node.to_json())).collect::<Map<_, _>>(),
            ),
        }
    }

    /// The entries of a mapping; none for anything else.
    pub(super) fn entries(&self) -> &[Entry] {
        match &self.value {
            Value::Map(entries) => entries,
            _ => &[],
        }
    }

    /// The entry of a mapping under a key.
    pub(super) fn entry(&self, key: &str) -> Option<&Entry> {
        self.entries().iter().find(|entry| entry.key == key)
    }

    /// The value under a key.
    pub(super) fn get(&self, key: &str) -> Option<&Self> {
        self.entry(key).map(|entry| &entry.node)
    }

    /// The text of a string.
    pub(super) fn as_str(&self) -> Option<&str> {
        match &self.value {
            Value::String(text) => Some(text),
            _ => None,
        }
    }

    /// The value as it may be shown to people: secrets as their expression, long ones cut.
    pub(super) fn shown(&self) -> String {
        let text = match (&self.original, &self.value) {
            (Some(original), _) => original.to_string(),
            (None, Value::String(text)) => text.clone(),
            (None, Value::Float(value)) => format!("{value:?}"),
            (None, _) => self.to_json().to_string(),
        };
        let mut characters = text.chars();
        let short: String = characters.by_ref().take(60).collect();
        if characters.next().is_some() { format!("{short}…") } else { short }
    }

    /// The place of the key and of the value at a dotted pointer such as `stages.base.pretrain.train.lr`. The tag of
    /// a stage's kind may be left out; keys may themselves have dots.
    pub(super) fn find(&self, pointer: &str) -> Option<(Option<Span>, &Self)> {
        self.find_under(pointer, None)
    }

    fn find_under(&self, pointer: &str, key: Option<Span>) -> Option<(Option<Span>, &Self)> {
        if pointer.is_empty() {
            return Some((key, self));
        }
        match &self.value {
            Value::Map(entries) => entries
                .iter()
                .find_map(|entry| {
                    let rest = pointer.strip_prefix(entry.key.as_str())?;
                    let rest = if rest.is_empty() { rest } else { rest.strip_prefix('.')? };
                    entry.node.find_under(rest, Some(entry.key_span))
                })
                .or_else(|| match entries.as_slice() {
                    [only] => only.node.find_under(pointer, Some(only.key_span)),
                    _ => None,
                }),
            Value::Seq(items) => {
                let (index, rest) = pointer.split_once('.').unwrap_or((pointer, ""));
                items.get(index.parse::<usize>().ok()?)?.find_under(rest, None)
            }
            _ => None,
        }
    }

    /// Whether this node or one below it is of a kind.
    pub(super) fn any(&self, wanted: &dyn Fn(&Self) -> bool) -> bool {
        wanted(self)
            || match &self.value {
                Value::Seq(items) => items.iter().any(|item| item.any(wanted)),
                Value::Map(entries) => entries.iter().any(|entry| entry.node.any(wanted)),
                _ => false,
            }
    }

    /// How many nodes there are.
    pub(super) fn size(&self) -> usize {
        1 + match &self.value {
            Value::Seq(items) => items.iter().map(Self::size).sum(),
            Value::Map(entries) => entries.iter().map(|entry| entry.node.size()).sum(),
            _ => 0,
        }
    }
}

fn whole(value: i128) -> Json {
    match (i64::try_from(value), u64::try_from(value)) {
        (Ok(value), _) => Json::from(value),
        (_, Ok(value)) => Json::from(value),
        _ => Json::from(value as f64),
    }
}
