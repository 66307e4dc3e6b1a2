//! TOML text → tree, for files of settings beside recipes.

use toml::{
    Spanned,
    de::{DeString, DeTable, DeValue},
};

use super::{
    diagnostic::Diagnostic,
    node::{Entry, Node, Value},
    place::{Span, Text},
};

/// The tree of a text; mistakes go to `problems` in their order. Behind one that stands outside of values the rest may be missing.
pub(super) fn parse(text: &Text, problems: &mut Vec<Diagnostic>) -> Node {
    let (table, errors) = DeTable::parse_recoverable(text.body());
    let mut found: Vec<Diagnostic> = errors.iter().map(|error| problem(text.body(), error)).collect();
    let node = Tree { body: text.body(), problems: &mut found }.table(Span::new(0, 0, 0), table.into_inner());
    found.sort_by_key(|problem| problem.span.map(|span| span.start));
    problems.append(&mut found);
    node
}

fn problem(body: &str, error: &toml::de::Error) -> Diagnostic {
    let problem = Diagnostic::new(error.message());
    let Some(span) = error.span() else { return problem };
    let rest = body.get(span.start..).unwrap_or_default();
    // Where something is missing, the next character is marked.
    let next = rest.chars().next().filter(|next| *next != '\n').map_or(0, char::len_utf8);
    let word = body.get(span.clone()).filter(|_| error.message().starts_with("string values must be quoted"));
    let hint = word.map(|word| format!("texts stand in quotes: \"{word}\""));
    problem.at(Span::new(0, span.start, span.end.max(span.start + next))).hint(hint)
}

struct Tree<'a> {
    body: &'a str,
    problems: &'a mut Vec<Diagnostic>,
}

impl Tree<'_> {
    fn table(&mut self, span: Span, table: DeTable<'_>) -> Node {
        let entry = |(key, value): (Spanned<DeString<'_>>, Spanned<DeValue<'_>>)| Entry {
            key_span: span_of(&key),
            key: key.into_inner().into_owned(),
            node: self.node(value),
        };
        let mut entries: Vec<Entry> = table.into_iter().map(entry).collect();
        // As they stand in the file.
        entries.sort_by_key(|entry| entry.key_span.start);
        Node::new(span, Value::Map(entries))
    }

    fn node(&mut self, value: Spanned<DeValue<'_>>) -> Node {
        let span = span_of(&value);
        let value = match value.into_inner() {
            DeValue::Table(table) => return self.table(span, table),
            DeValue::Array(items) => Value::Seq(items.into_iter().map(|item| self.node(item)).collect()),
            DeValue::String(text) => Value::String(text.into_owned()),
            DeValue::Boolean(value) => Value::Bool(value),
            DeValue::Integer(number) => match i128::from_str_radix(number.as_str(), number.radix()) {
                Ok(number) => Value::Int(number),
                Err(_) => self.none(span, "the number is too large"),
            },
            DeValue::Float(number) => match number.as_str().parse::<f64>() {
                Ok(number) if number.is_finite() => Value::Float(number),
                _ => self.none(span, "the number isn't finite"),
            },
            DeValue::Datetime(_) => self.none(span, "dates have no meaning here; texts stand in quotes"),
        };
        let written = self.body.get(span.start as usize..span.end as usize);
        let written = written.filter(|_| matches!(value, Value::Bool(_) | Value::Int(_) | Value::Float(_)));
        Node { written: written.map(Into::into), ..Node::new(span, value) }
    }

    /// What stands for a value that is none.
    fn none(&mut self, span: Span, problem: &str) -> Value {
        self.problems.push(Diagnostic::new(problem).at(span));
        Value::Unknown
    }
}

fn span_of<T>(spanned: &Spanned<T>) -> Span {
    let span = spanned.span();
    Span::new(0, span.start, span.end)
}

#[cfg(test)]
mod tests {
    use serde_json::{Value as Json, json};

    use super::*;

    fn read(body: &str) -> (Json, Vec<Diagnostic>) {
        let mut problems = Vec::new();
        let node = parse(&Text::file("pipe.toml", body), &mut problems);
        (node.to_json(), problems)
    }

    #[test]
    fn tables_keys_and_values_are_read_in_their_order() {
        let (json, problems) = read(
            "# a file\n[a.b]\nx = 1 # one\ny.z = \"t\\n\\u00e9\" \n'q q' = [1.5, true,\n  'c:\\d', # a place\n]\n\n[a.\"c d\"]\n\
             long = \"\"\"\none\ntwo\"\"\"\nin = { k = 1_000, l.m = '' }\n[e]\n[[l]]\nh = 0x1f\n",
        );
        assert_eq!(problems, []);
        assert_eq!(
            json,
            json!({
                "a": {
                    "b": { "x": 1, "y": { "z": "t\né" }, "q q": [1.5, true, "c:\\d"] },
                    "c d": { "long": "one\ntwo", "in": { "k": 1000, "l": { "m": "" } } },
                },
                "e": {},
                "l": [{ "h": 31 }],
            })
        );
        let text = Text::file("pipe.toml", "z = 1\na = 2\n");
        let node = parse(&text, &mut Vec::new());
        assert_eq!(node.entries().iter().map(|entry| entry.key.as_str()).collect::<Vec<_>>(), ["z", "a"]);
    }

    #[test]
    fn every_mistake_has_its_place_and_what_can_be_read_is() {
        let (json, problems) = read("x = yes\ny = 1\ny = 2\nz = \"\\q\"\nd = 2026-11-29\nn = nan\nlast = 3\n");
        assert_eq!(json["last"], 3, "{json}");
        let said = [
            ("string values must be quoted", 4),
            ("duplicate key", 14),
            ("missing escaped value", 26),
            ("dates have no meaning here", 33),
            ("the number isn't finite", 48),
        ];
        assert_eq!(problems.len(), said.len(), "{problems:?}");
        for (problem, (message, place)) in problems.iter().zip(said) {
            assert!(problem.message.starts_with(message), "{problem:?}");
            assert_eq!(problem.span.map(|span| span.start), Some(place), "{problem:?}");
        }
        assert_eq!(problems[0].hint.as_deref(), Some("texts stand in quotes: \"yes\""));
        let (_, problems) = read("[a\nw = 1\n");
        assert_eq!(problems[0].message, "unclosed table, expected `]`");
    }
}
