//! Holds the tree against the schema and collects every mistake: keys, types, ranges, variants.

use std::collections::BTreeMap;

use super::diagnostic::Diagnostic;
use super::node::{Entry, Node, Value};
use super::place::Span;
use super::shape::{Bounds, Role, Shape, Slot};
use super::suggest;

/// What the top of the tree is called.
pub(super) const ROOT: &str = "the recipe";

/// All mistakes in the value of a slot with this name.
pub(super) fn check(node: &Node, slot: &Slot, name: &str, problems: &mut Vec<Diagnostic>) {
    Checker { problems }.value(node, slot, Span { end: node.span.start, ..node.span }, name);
}

/// A name as it stands in a message.
pub(super) fn called(name: &str) -> String {
    if name.starts_with("the ") { name.to_owned() } else { format!("`{name}`") }
}

struct Checker<'a> {
    problems: &'a mut Vec<Diagnostic>,
}

impl Checker<'_> {
    fn report(&mut self, problem: Diagnostic) {
        self.problems.push(problem);
    }

    /// `at` is the place of the value's key, where it has one.
    fn value(&mut self, node: &Node, slot: &Slot, at: Span, name: &str) {
        match (&node.value, &slot.shape) {
            (Value::Unknown, _) | (_, Shape::Any) => {}
            (Value::Map(_), Shape::Either { mapping, .. }) => self.value(node, mapping, at, name),
            (Value::String(_) | Value::Seq(_), Shape::Either { plain, .. }) if plain.shape.is_like(&node.value) => {
                self.value(node, plain, at, name);
            }
            (Value::Null, shape) if slot.nullable => self.null(node, shape, at, name),
            (Value::Null, _) => self.report(
                Diagnostic::new(format!("`{name}` is empty; it takes {}", slot.wanted()))
                    .at(at)
                    .hint(defaults(slot).map(|braces| format!("write `{name}: {braces}` for its defaults"))),
            ),
            (Value::Bool(_), Shape::Bool) => {}
            (Value::Int(value), Shape::Integer(bounds) | Shape::Number(bounds)) => {
                self.range(node, *value as f64, bounds, name);
                if matches!(slot.shape, Shape::Integer(_)) && u64::try_from(*value).is_err() && *value > 0 {
                    self.report(Diagnostic::new(format!("`{name}` is larger than {}", u64::MAX)).at(node.span));
                }
            }
            (Value::Float(value), Shape::Number(_) | Shape::Integer(_)) if !value.is_finite() => {
                self.report(Diagnostic::new(format!("`{name}` takes a finite number")).at(node.span));
            }
            (Value::Float(value), Shape::Number(bounds)) => self.range(node, *value, bounds, name),
            (Value::Float(value), Shape::Integer(bounds)) if value.fract() == 0.0 && value.abs() < 9e15 => {
                self.range(node, *value, bounds, name);
            }
            (Value::String(text), Shape::Text { max }) => {
                let length = text.chars().count();
                if max.is_some_and(|max| length as u64 != max) {
                    self.report(
                        Diagnostic::new(format!("`{name}` takes one character, and this has {length}"))
                            .at(node.span)
                            .hint((text == "\\t").then(|| "write \"\\t\" in double quotes for a tab".to_owned())),
                    );
                }
            }
            (Value::Seq(items), Shape::List { item, min }) => {
                self.at_least(items.len(), *min, at, name);
                for node in items {
                    self.value(node, item, node.span, name);
                }
            }
            (Value::Map(entries), Shape::Map { value, min }) => {
                self.at_least(entries.len(), *min, at, name);
                for entry in entries {
                    // A label on its own would look like a key.
                    let name = match &value.shape {
                        Shape::Choice(_) => entry.key.clone(),
                        _ => format!("{name}.{}", entry.key),
                    };
                    self.value(&entry.node, value, entry.key_span, &name);
                }
            }
            (Value::Map(entries), Shape::Record(fields)) => self.record(entries, fields, at, name),
            (Value::Map(entries), Shape::Choice(variants)) => self.variant(entries, variants, at, name),
            (Value::String(word), Shape::Choice(variants)) => self.word(node, word, variants, slot, name),
            _ => self.mismatch(node, slot, name),
        }
    }

    /// `masked_lm:` with nothing behind it looks as if it were there, and is not.
    fn null(&mut self, node: &Node, shape: &Shape, at: Span, name: &str) {
        let left_empty = node.span.start == node.span.end;
        if left_empty && matches!(shape, Shape::Record(_) | Shape::Choice(_)) {
            let braces = braces(shape).map(|braces| format!("write `{name}: {braces}` for its defaults, or "));
            self.report(
                Diagnostic::new(format!("`{name}` is left empty, which turns it off"))
                    .at(at)
                    .hint(format!("{}take the key out", braces.unwrap_or_default())),
            );
        }
    }

    fn range(&mut self, node: &Node, value: f64, bounds: &Bounds, name: &str) {
        let wrong = match (bounds.min, bounds.max) {
            (Some(min), _) if value < min => format!("at least {min}"),
            (_, Some(max)) if value > max => format!("at most {max}"),
            _ => return,
        };
        self.report(Diagnostic::new(format!("`{name}` must be {wrong}, and is {}", node.shown())).at(node.span));
    }

    fn at_least(&mut self, found: usize, min: usize, at: Span, name: &str) {
        if found < min {
            let plural = if min == 1 { "entry" } else { "entries" };
            self.report(Diagnostic::new(format!("`{name}` needs at least {min} {plural}, and has {found}")).at(at));
        }
    }

    fn record(&mut self, entries: &[Entry], fields: &BTreeMap<String, Slot>, at: Span, name: &str) {
        let given = |field: &str| entries.iter().any(|entry| entry.key == field);
        let mut meant = Vec::new();
        for entry in entries {
            if let Some(slot) = fields.get(&entry.key) {
                self.value(&entry.node, slot, entry.key_span, &entry.key);
                continue;
            }
            // A name that's given already is hardly the one that was meant.
            let near = suggest::nearest(&entry.key, fields.keys().map(String::as_str).filter(|field| !given(field)));
            meant.extend(near);
            let mut within = fields.iter().filter(|(_, slot)| slot.has_key(&entry.key)).map(|(field, _)| field);
            let hint = match (within.next(), near) {
                (Some(field), _) if within.next().is_none() => {
                    format!("it stands within `{field}`: `{field}: {{ {}: … }}`", entry.key)
                }
                (_, Some(near)) => format!("did you mean `{near}`?"),
                _ if fields.is_empty() => "it takes no keys".into(),
                _ => format!("the keys are {}", suggest::list(fields.keys().map(String::as_str))),
            };
            let message = format!("{} has no key `{}`", called(name), entry.key);
            self.report(Diagnostic::new(message).at(entry.key_span).hint(hint));
        }
        for (field, slot) in fields.iter().filter(|(_, slot)| slot.required) {
            if !given(field) && !meant.contains(&field.as_str()) {
                let hint = match slot.about.as_str() {
                    "" => format!("it takes {}", slot.wanted()),
                    about => format!("`{field}`: {about}"),
                };
                self.report(Diagnostic::new(format!("{} lacks the key `{field}`", called(name))).at(at).hint(hint));
            }
        }
    }

    fn variant(&mut self, entries: &[Entry], variants: &[(String, Option<Slot>)], at: Span, name: &str) {
        let names = || variants.iter().map(|(name, _)| name.as_str());
        match entries {
            [] => self.report(
                Diagnostic::new(format!("{} is empty", called(name)))
                    .at(at)
                    .hint(format!("it takes one of {}", suggest::list(names()))),
            ),
            [_] => {}
            [first, .., last] => self.report(
                Diagnostic::new(format!(
                    "{} takes one key, and this has {}",
                    called(name),
                    suggest::list(entries.iter().map(|entry| entry.key.as_str()))
                ))
                .at(last.key_span)
                .also(first.key_span, "one")
                .label("and another")
                .hint(format!("keep one of {}", suggest::list(names()))),
            ),
        }
        for entry in entries {
            match variants.iter().find(|(variant, _)| *variant == entry.key) {
                Some((_, Some(slot))) => self.value(&entry.node, slot, entry.key_span, &entry.key),
                Some((word, None)) => self.report(
                    Diagnostic::new(format!("`{word}` takes no value"))
                        .at(entry.key_span)
                        .hint(format!("write `{name}: {word}`")),
                ),
                None => self.report(unknown(&entry.key, names(), name).at(entry.key_span)),
            }
        }
    }

    fn word(&mut self, node: &Node, word: &str, variants: &[(String, Option<Slot>)], slot: &Slot, name: &str) {
        match variants.iter().find(|(variant, _)| variant == word) {
            Some((_, None)) => {}
            Some((_, Some(payload))) => self.report(
                Diagnostic::new(format!("`{word}` takes {}", payload.wanted()))
                    .at(node.span)
                    .hint(format!("write `{name}: {{{word}: {}}}`", braces(&payload.shape).unwrap_or("…"))),
            ),
            None if node.original.is_some() => self.mismatch(node, slot, name),
            None => self.report(unknown(word, variants.iter().map(|(name, _)| name.as_str()), name).at(node.span)),
        }
    }

    fn mismatch(&mut self, node: &Node, slot: &Slot, name: &str) {
        let hint = match (&node.value, &slot.shape) {
            (Value::String(text), Shape::Integer(_) | Shape::Number(_) | Shape::Bool) => {
                let plain = matches!(
                    (super::scalar::resolve(text), &slot.shape),
                    (Value::Int(_) | Value::Float(_), Shape::Integer(_) | Shape::Number(_))
                        | (Value::Bool(_), Shape::Bool)
                );
                match text.to_lowercase().as_str() {
                    _ if plain && node.original.is_none() => Some(format!("take the quotes off: {text}")),
                    _ if plain => Some("add a filter: `int`, `float` or `bool`".to_owned()),
                    "yes" | "on" if slot.shape.is_bool() => Some("write `true`".to_owned()),
                    "no" | "off" if slot.shape.is_bool() => Some("write `false`".to_owned()),
                    _ => None,
                }
            }
            (Value::Int(_) | Value::Float(_) | Value::Bool(_), Shape::Text { .. }) => {
                Some(format!("put it into quotes: \"{}\"", node.shown()))
            }
            (Value::String(_), Shape::Record(fields))
                if fields.get("path").is_some_and(|path| path.role == Role::Path) =>
            {
                Some(format!("write `{name}: {{path: {}}}`", node.shown()))
            }
            (Value::Map(_), Shape::List { .. }) => Some("begin each entry with `- `".to_owned()),
            (_, Shape::List { .. } | Shape::Either { .. }) if slot.meant(true).lists_plain_values() => {
                Some(format!("put it into brackets: [{}]", node.shown()))
            }
            _ => None,
        };
        let found = match &node.value {
            Value::Null | Value::Unknown => "nothing".to_owned(),
            Value::Bool(_) | Value::Int(_) | Value::Float(_) => format!("`{}`", node.shown()),
            Value::String(_) => format!("the text `{}`", node.shown()),
            Value::Seq(_) => "a list".to_owned(),
            Value::Map(_) => "a mapping".to_owned(),
        };
        self.report(
            Diagnostic::new(format!("`{name}` takes {}, and this is {found}", slot.wanted())).at(node.span).hint(hint),
        );
    }
}

impl Shape {
    fn is_bool(&self) -> bool {
        matches!(self, Self::Bool)
    }

    /// Whether a text stands where one or a word is wanted, or a list where one is.
    fn is_like(&self, value: &Value) -> bool {
        match value {
            Value::String(_) => matches!(self, Self::Text { .. } | Self::Choice(_)),
            Value::Seq(_) => matches!(self, Self::List { .. }),
            _ => false,
        }
    }
}

impl Slot {
    fn lists_plain_values(&self) -> bool {
        matches!(&self.shape, Shape::List { item, .. } if !matches!(item.shape, Shape::Record(_)))
    }
}

fn unknown<'a>(word: &str, variants: impl Iterator<Item = &'a str> + Clone, name: &str) -> Diagnostic {
    let hint = match (name, word) {
        // What a batch is changes what is learned; how much of it fits into memory doesn't.
        ("batch", "auto") => Some("`micro_batch: auto` beside it computes the batch in parts that fit".to_owned()),
        _ => suggest::did_you_mean(word, variants, "it takes one of"),
    };
    Diagnostic::new(format!("`{name}` has no kind `{word}`")).hint(hint)
}

/// What to write for a mapping with its defaults, if all its fields have some.
fn braces(shape: &Shape) -> Option<&'static str> {
    match shape {
        Shape::Record(fields) if fields.values().all(|field| !field.required) => Some("{}"),
        _ => None,
    }
}

fn defaults(slot: &Slot) -> Option<&'static str> {
    braces(&slot.shape)
}
