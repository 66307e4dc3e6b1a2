//! What is said of templates: the recipe's expressions, and prompts over data rows.

use std::ops::Range;

use minijinja::{Error, ErrorKind};

/// Whether a string has something to fill in.
pub(super) fn is_expression(text: &str) -> bool {
    ["{{", "{%", "{#"].iter().any(|mark| text.contains(mark))
}

/// The inside of a text that is one `{{ … }}`.
pub(super) fn lone(text: &str) -> Option<Range<usize>> {
    let trimmed = text.trim();
    let inner = trimmed.strip_prefix("{{")?.strip_suffix("}}")?;
    let inner = inner.strip_prefix('-').unwrap_or(inner);
    let inner = inner.strip_suffix('-').unwrap_or(inner);
    let start = inner.as_ptr() as usize - text.as_ptr() as usize;
    Some(start..start + inner.len())
}

/// The engine's reason, without the name of a template.
pub fn reason(error: &Error) -> String {
    match (error.kind(), error.detail()) {
        (ErrorKind::SyntaxError | ErrorKind::InvalidOperation, Some(detail)) => detail.to_owned(),
        (kind, Some(detail)) => format!("{kind}: {detail}"),
        (kind, None) => kind.to_string(),
    }
}

/// Where a name stands as a word of its own.
pub fn identifier(text: &str, name: &str) -> Option<Range<usize>> {
    let part_of_word = |character: char| character.is_alphanumeric() || character == '_';
    text.match_indices(name)
        .find(|(at, _)| {
            let before = text[..*at].chars().next_back();
            let after = text[at + name.len()..].chars().next();
            let quoted = before.is_some_and(|quote| quote == '"' || quote == '\'');
            !before.is_some_and(part_of_word) && !after.is_some_and(part_of_word) && before != Some('.') && !quoted
        })
        .map(|(at, _)| at..at + name.len())
}
