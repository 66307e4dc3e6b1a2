//! Values out of `env()`: what stands for them in manifests, and how they're kept out of everything people see.

use std::collections::BTreeMap;

use serde_json::Value as Json;

use super::diagnostic::Diagnostic;
use super::node::{Node, Value};
use super::walk;

/// BLAKE3's key derivation context for hashes of secret values.
const CONTEXT: &str = "pipe 2026-11 value of a recipe's expression with env()";
/// Shorter values are parts of too many words to be taken out of messages.
const MIN_LENGTH: usize = 3;

/// The secrets of a recipe. Its values stay here; `Debug` and `Display` are missing on purpose.
#[derive(Clone, Default)]
pub(super) struct Secrets {
    /// By pointer: the expression with a hash of its value.
    pub(super) replacements: BTreeMap<String, String>,
    /// Value and expression, the longest value first.
    values: Vec<(String, String)>,
}

impl Secrets {
    /// Finds the marked nodes of a tree. `read` are the values that came from the environment, which may be parts of
    /// those.
    pub(super) fn of(tree: &Node, read: Vec<(String, String)>) -> Self {
        let read = read.into_iter().filter(|(value, _)| value.len() >= MIN_LENGTH).collect();
        let mut secrets = Self { values: read, ..Self::default() };
        secrets.collect(tree, &mut String::new(), false);
        secrets.values.sort_by_key(|(value, _)| std::cmp::Reverse(value.len()));
        secrets.values.dedup();
        secrets
    }

    fn collect(&mut self, node: &Node, pointer: &mut String, replaced: bool) {
        if let Some(original) = &node.original {
            let value = match &node.value {
                Value::String(text) => text.clone(),
                _ => node.to_json().to_string(),
            };
            if !replaced {
                let hash = blake3::Hash::from_bytes(blake3::derive_key(CONTEXT, value.as_bytes()));
                self.replacements.insert(pointer.clone(), format!("env:{original}#{hash}"));
            }
            let keys = node.entries().iter().map(|entry| entry.key.clone());
            let long = keys.chain([value]).filter(|value| value.len() >= MIN_LENGTH);
            self.values.extend(long.map(|value| (value, original.to_string())));
        }
        let replaced = replaced || node.original.is_some();
        let mut below = |key: &str, node: &Node| {
            let length = pointer.len();
            walk::push(pointer, key);
            self.collect(node, pointer, replaced);
            pointer.truncate(length);
        };
        match &node.value {
            Value::Seq(items) => items.iter().enumerate().for_each(|(index, item)| below(&index.to_string(), item)),
            Value::Map(entries) => entries.iter().for_each(|entry| below(&entry.key, &entry.node)),
            _ => {}
        }
    }

    /// Has what is at a pointer, and below it, replaced at another one too.
    pub(super) fn hold_for(&mut self, origin: &str, other: &str) {
        let below = |(pointer, replacement): (&String, &String)| {
            let rest = pointer.strip_prefix(origin).filter(|rest| rest.is_empty() || rest.starts_with('.'))?;
            Some((format!("{other}{rest}"), replacement.clone()))
        };
        let copies: Vec<_> = self.replacements.iter().filter_map(below).collect();
        self.replacements.extend(copies);
    }

    /// Puts the replacements into the JSON of what is at a pointer.
    pub(super) fn redact(&self, value: &mut Json, pointer: &mut String) {
        if self.replacements.is_empty() {
            return;
        }
        if let Some(replacement) = self.replacements.get(pointer.as_str()) {
            *value = Json::String(replacement.clone());
            return;
        }
        let mut below = |key: &str, value: &mut Json| {
            let length = pointer.len();
            walk::push(pointer, key);
            self.redact(value, pointer);
            pointer.truncate(length);
        };
        match value {
            Json::Array(items) => {
                items.iter_mut().enumerate().for_each(|(index, item)| below(&index.to_string(), item))
            }
            Json::Object(map) => map.iter_mut().for_each(|(key, value)| below(key, value)),
            _ => {}
        }
    }

    /// Values, each with its expression, the longest first.
    pub(super) fn values(&self) -> &[(String, String)] {
        &self.values
    }

    /// A text with each secret's expression in place of its value.
    pub(super) fn scrub(&self, text: &str) -> String {
        self.values.iter().fold(text.to_owned(), |text, (value, original)| {
            if text.contains(value.as_str()) { text.replace(value.as_str(), original) } else { text }
        })
    }

    /// A last net under what is reported: messages are made of expressions to begin with.
    pub(super) fn scrub_all(&self, problems: &mut [Diagnostic]) {
        if self.values.is_empty() {
            return;
        }
        for problem in problems {
            problem.message = self.scrub(&problem.message);
            for text in [&mut problem.label, &mut problem.hint].into_iter().flatten() {
                *text = self.scrub(text);
            }
        }
    }
}
