//! Scalars that are typed and still know how they were written: `1.10` is a number in arithmetic, and `1.10` in a text.

use std::cmp::Ordering;
use std::collections::BTreeSet;
use std::fmt;
use std::sync::Arc;

use minijinja::Value as Dynamic;
use minijinja::value::{DynObject, Object, ObjectRepr, ValueKind};

use super::code::{Block, Token, TokenKind, blocks};

/// The filter that gives the typed value.
pub(super) const TYPED: &str = "__typed";

/// Operators that work on values rather than on how these are written.
const OPERATORS: [&str; 15] = ["+", "-", "*", "/", "//", "%", "**", "==", "!=", "<", "<=", ">", ">=", "in", "is"];

/// Filters that do.
const FILTERS: [&str; 11] = ["abs", "bool", "float", "int", "max", "min", "round", "sort", "sum", "tojson", "unique"];

/// Words that aren't names of values.
const KEYWORDS: [&str; 11] = ["and", "or", "not", "in", "is", "if", "elif", "else", "for", "set", "recursive"];

/// A value that would be written otherwise than it was.
#[derive(Debug)]
pub(super) struct Written {
    pub(super) value: Dynamic,
    pub(super) text: Arc<str>,
}

impl Object for Written {
    fn repr(self: &Arc<Self>) -> ObjectRepr {
        ObjectRepr::Plain
    }

    fn is_true(self: &Arc<Self>) -> bool {
        self.value.is_true()
    }

    fn custom_cmp(self: &Arc<Self>, other: &DynObject) -> Option<Ordering> {
        other.downcast_ref::<Self>().map(|other| self.value.cmp(&other.value))
    }

    fn render(self: &Arc<Self>, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

/// What the filter [`TYPED`] does.
pub(super) fn typed(value: &Dynamic) -> Dynamic {
    if let Some(written) = value.downcast_object_ref::<Written>() {
        return written.value.clone();
    }
    if !is_within(value) {
        return value.clone();
    }
    let items = value.try_iter().into_iter().flatten();
    match value.kind() {
        ValueKind::Map => {
            let entry = |key: Dynamic| (key.to_string(), typed(&value.get_item(&key).unwrap_or_default()));
            Dynamic::from_pairs(items.map(entry).collect::<Vec<_>>())
        }
        _ => items.map(|item| typed(&item)).collect(),
    }
}

/// Whether a value is a [`Written`], or has one in it.
pub(super) fn is_within(value: &Dynamic) -> bool {
    let below = || value.try_iter().into_iter().flatten();
    match value.kind() {
        ValueKind::Seq | ValueKind::Iterable => below().any(|item| is_within(&item)),
        ValueKind::Map => below().any(|key| value.get_item(&key).is_ok_and(|item| is_within(&item))),
        _ => value.downcast_object_ref::<Written>().is_some(),
    }
}

/// A template in which operators and filters that work on values are given values. None where it has raw parts, which
/// aren't code.
pub(super) fn with_typed_operands(text: &str) -> Option<String> {
    let blocks = blocks(text);
    let first = |block: &Block| block.tokens.first().map(|token| &text[token.range.clone()]);
    if blocks.iter().any(|block| block.is_statement && first(block) == Some("raw")) {
        return None;
    }
    let places: BTreeSet<usize> = blocks.iter().flat_map(|block| operands(text, block)).collect();
    let mut typed = String::with_capacity(text.len() + places.len() * (TYPED.len() + 1));
    let mut done = 0;
    for place in places {
        typed.push_str(&text[done..place]);
        typed.push('|');
        typed.push_str(TYPED);
        done = place;
    }
    typed.push_str(&text[done..]);
    Some(typed)
}

/// The ends of all operands in a block.
fn operands(text: &str, block: &Block) -> Vec<usize> {
    let tokens = block.tokens.as_slice();
    let word = |at: usize| tokens.get(at).map(|token: &Token| &text[token.range.clone()]);
    let is_loop = block.is_statement && word(0) == Some("for");
    let mut places = Vec::new();
    let mut seen_in = false;
    for at in 0..tokens.len() {
        let Some(sign) = word(at) else { continue };
        if tokens[at].kind != TokenKind::Literal && sign == "|" {
            if at > 0 && word(at + 1).is_some_and(|name| FILTERS.contains(&name)) {
                places.push(tokens[at - 1].range.end);
            }
            continue;
        }
        if tokens[at].kind == TokenKind::Literal || !OPERATORS.contains(&sign) || at > 0 && word(at - 1) == Some(".") {
            continue;
        }
        // `for x in xs` has no operator.
        if is_loop && sign == "in" && !std::mem::replace(&mut seen_in, true) {
            continue;
        }
        let before = if at > 1 && word(at - 1) == Some("not") { at - 1 } else { at };
        if let Some(left) = before.checked_sub(1).and_then(|left| tokens.get(left))
            && (left.kind == TokenKind::Close || is_name(text, left))
        {
            places.push(left.range.end);
        }
        if sign != "is"
            && let Some(end) = right(text, tokens, at + 1)
        {
            places.push(end);
        }
    }
    places
}

fn is_name(text: &str, token: &Token) -> bool {
    token.kind == TokenKind::Word && !KEYWORDS.contains(&&text[token.range.clone()])
}

/// Where the operand ends that begins at a token; none for one that is a number or a string.
fn right(text: &str, tokens: &[Token], start: usize) -> Option<usize> {
    let word = |at: usize| tokens.get(at).map(|token| &text[token.range.clone()]);
    let mut at = start;
    while matches!(word(at), Some("-" | "+" | "not")) {
        at += 1;
    }
    let token = tokens.get(at)?;
    let mut end = match token.kind {
        TokenKind::Open => closing(tokens, at)?,
        TokenKind::Word if is_name(text, token) => at,
        _ => return None,
    };
    loop {
        match (word(end + 1), tokens.get(end + 1).map(|token| token.kind)) {
            (Some("."), _) | (Some("|"), _) if tokens.get(end + 2).is_some() => end += 2,
            (Some("(" | "["), Some(TokenKind::Open)) => end = closing(tokens, end + 1)?,
            _ => return Some(tokens[end].range.end),
        }
    }
}

/// The bracket that closes the one at a token.
fn closing(tokens: &[Token], open: usize) -> Option<usize> {
    let mut depth = 0_usize;
    (open..tokens.len()).find(|&at| {
        match tokens[at].kind {
            TokenKind::Open => depth += 1,
            TokenKind::Close => depth = depth.saturating_sub(1),
            _ => {}
        }
        depth == 0
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn marked(text: &str) -> String {
        with_typed_operands(text).unwrap_or_default().replace(&format!("|{TYPED}"), "!")
    }

    #[test]
    fn operands_are_values_and_all_else_is_text() {
        assert_eq!(marked("{{ v }}/{{ v ~ '-' ~ w }}"), "{{ v }}/{{ v ~ '-' ~ w }}");
        assert_eq!(marked("{{ a * 2 - -b.c[d](e) }}"), "{{ a! * 2 - -b.c[d](e)! }}");
        assert_eq!(marked("{{ (a + b) // c ~ d }}"), "{{ (a! + b!)! // c! ~ d }}");
        assert_eq!(
            marked("{% if a not in xs and b is number %}-{% endif %}"),
            "{% if a! not in xs! and b! is number %}-{% endif %}"
        );
        assert_eq!(
            marked("{% for x in xs if x > 1 %}{{ x|int }}{% endfor %}"),
            "{% for x in xs if x! > 1 %}{{ x!|int }}{% endfor %}"
        );
        assert_eq!(marked("{{ a|upper == 'X' }}"), "{{ a|upper! == 'X' }}");
        assert_eq!(marked("a - b {{ c }}"), "a - b {{ c }}");
        assert_eq!(with_typed_operands("{% raw %}{{ a - b }}{% endraw %}"), None);
    }
}
