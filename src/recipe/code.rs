//! Templates taken apart, as far as the recipe has to know them: text, and code in braces, token by token.

use std::ops::Range;

/// Code in braces.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Block {
    /// All of it, braces included.
    pub whole: Range<usize>,
    /// Whether it's a statement, `{% … %}`, rather than an expression.
    pub is_statement: bool,
    /// Its tokens; none of a comment.
    pub tokens: Vec<Token>,
}

/// A part of an expression.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Token {
    /// Where it stands in the template.
    pub range: Range<usize>,
    /// What it is.
    pub kind: TokenKind,
}

/// What a part of an expression is.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum TokenKind {
    /// A name or a keyword.
    Word,
    /// A number or a string.
    Literal,
    /// An opening bracket.
    Open,
    /// A closing bracket.
    Close,
    /// An operator or another sign.
    Sign,
}

/// The code of a template. What isn't closed ends the list: the engine will tell.
pub fn blocks(text: &str) -> Vec<Block> {
    let mut blocks = Vec::new();
    let mut at = 0;
    while let Some(start) = text[at..].find('{').map(|found| at + found) {
        let rest = &text[start..];
        let end = if let Some(comment) = rest.strip_prefix("{#") {
            let Some(end) = comment.find("#}").map(|end| start + 4 + end) else { break };
            blocks.push(Block { whole: start..end, is_statement: false, tokens: Vec::new() });
            end
        } else if rest.starts_with("{{") || rest.starts_with("{%") {
            let is_statement = rest.starts_with("{%");
            let Some(block) = code(text, start, is_statement) else { break };
            let end = block.whole.end;
            blocks.push(block);
            end
        } else {
            start + 1
        };
        at = end;
    }
    blocks
}

/// The parts of a template that are text: what is written as it stands.
pub fn literals(text: &str) -> Vec<Range<usize>> {
    let blocks = blocks(text);
    let starts = std::iter::once(0).chain(blocks.iter().map(|block| block.whole.end));
    let ends = blocks.iter().map(|block| block.whole.start).chain([text.len()]);
    starts.zip(ends).map(|(start, end)| start..end).filter(|range| !range.is_empty()).collect()
}

/// The block that begins at `start`.
fn code(text: &str, start: usize, is_statement: bool) -> Option<Block> {
    let close = if is_statement { "%}" } else { "}}" };
    let mut tokens = Vec::new();
    let mut at = start + 2;
    // What trims white space isn't a sign.
    if text[at..].starts_with(['-', '+']) {
        at += 1;
    }
    let mut depth = 0_usize;
    loop {
        let rest = &text[at..];
        let first = rest.chars().next()?;
        let trimmed = rest.strip_prefix(['-', '+']).unwrap_or(rest);
        if depth == 0 && trimmed.starts_with(close) {
            return Some(Block { whole: start..at + (rest.len() - trimmed.len()) + 2, is_statement, tokens });
        }
        if first.is_whitespace() {
            at += first.len_utf8();
            continue;
        }
        let (length, kind) = token(rest, first)?;
        match kind {
            TokenKind::Open => depth += 1,
            TokenKind::Close => depth = depth.saturating_sub(1),
            _ => {}
        }
        tokens.push(Token { range: at..at + length, kind });
        at += length;
    }
}

/// The length and kind of the token that a text begins with.
fn token(rest: &str, first: char) -> Option<(usize, TokenKind)> {
    const SIGNS: [&str; 6] = ["**", "//", "==", "!=", "<=", ">="];
    let in_word = |character: char| character.is_alphanumeric() || character == '_';
    let length = |fits: &dyn Fn(char) -> bool| rest.find(|character| !fits(character)).unwrap_or(rest.len());
    Some(match first {
        '"' | '\'' => {
            let mut escaped = false;
            let end = rest.char_indices().skip(1).find(|(_, character)| {
                let ends = *character == first && !escaped;
                escaped = *character == '\\' && !escaped;
                ends
            });
            (end?.0 + 1, TokenKind::Literal)
        }
        _ if first.is_ascii_digit() => {
            let mut end = length(&|character| in_word(character) || character == '.');
            // The sign of an exponent.
            if rest[..end].ends_with(['e', 'E']) && rest[end..].starts_with(['-', '+']) {
                end += 1 + rest[end + 1..].find(|character: char| !in_word(character)).unwrap_or(rest.len() - end - 1);
            }
            (end, TokenKind::Literal)
        }
        _ if in_word(first) => (length(&in_word), TokenKind::Word),
        '(' | '[' | '{' => (1, TokenKind::Open),
        ')' | ']' | '}' => (1, TokenKind::Close),
        _ if SIGNS.iter().any(|sign| rest.starts_with(sign)) => (2, TokenKind::Sign),
        _ => (first.len_utf8(), TokenKind::Sign),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tokens(text: &str) -> Vec<&str> {
        blocks(text).iter().flat_map(|block| &block.tokens).map(|token| &text[token.range.clone()]).collect()
    }

    #[test]
    fn code_is_told_from_text_also_where_strings_hold_braces() {
        let text = "a [SEP] {{ x|replace('}}', \"\\\"\") }} b {# {{ no }} #}{% if y %}c{% endif %}{ d";
        let literals: Vec<&str> = literals(text).into_iter().map(|range| &text[range]).collect();
        assert_eq!(literals, ["a [SEP] ", " b ", "c", "{ d"]);
        assert_eq!(tokens(text), ["x", "|", "replace", "(", "'}}'", ",", "\"\\\"\"", ")", "if", "y", "endif"]);
        assert_eq!(blocks("{{ open").len(), 0);
    }

    #[test]
    fn numbers_names_and_signs_are_tokens() {
        assert_eq!(
            tokens("{{- a.b*1.5e-3 // -c[0] ** 2 >= 十 -}}"),
            ["a", ".", "b", "*", "1.5e-3", "//", "-", "c", "[", "0", "]", "**", "2", ">=", "十"]
        );
        assert_eq!(tokens("{{ {'a': {'b': 1}} }}"), ["{", "'a'", ":", "{", "'b'", ":", "1", "}", "}"]);
    }
}
