//! Special tokens in a template's own words: `{{ sep }}`, `{{ mask }}`, `{{ token("<|user|>") }}`. They go through the template
//! engine between characters that no text has, and become ids; a row's text never does.

use anyhow::{Result, bail};
use minijinja::Environment;

use super::Specials;
use crate::{
    data::text::{ABSENT, Special},
    support::Hinted,
};

/// What a template calls special tokens.
pub const NAMES: [(&str, Special); 7] = [
    ("cls", Special::Cls),
    ("sep", Special::Sep),
    ("mask", Special::Mask),
    ("gmask", Special::Gmask),
    ("smask", Special::Smask),
    ("sop", Special::Sop),
    ("eop", Special::Eop),
];

/// The function that gives any other token by its name in the vocabulary.
pub const FUNCTION: &str = "token";

/// Before the name of a special token, before that of a vocabulary's entry, and behind either: code points that are never
/// characters.
const NAMED: char = '\u{FDD1}';
const ENTRY: char = '\u{FDD2}';
const END: char = '\u{FDD3}';

/// A part of a filled-in template.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Piece<'t> {
    /// Text.
    Text(&'t str),
    /// One of [`NAMES`].
    Special(Special),
    /// An entry of the vocabulary, by its name.
    Entry(&'t str),
}

/// The special token of this name.
pub fn named(name: &str) -> Option<Special> {
    NAMES.iter().find(|(known, _)| *known == name).map(|(_, special)| *special)
}

/// What a template calls a special token, if it can.
pub fn name_of(special: Special) -> Option<&'static str> {
    NAMES.iter().find(|(_, known)| *known == special).map(|(name, _)| *name)
}

/// Whether a template calls [`FUNCTION`].
pub fn calls_function(template: &str) -> bool {
    let in_word = |next: Option<char>| next.is_some_and(|next| next.is_alphanumeric() || next == '_' || next == '.');
    template.match_indices(FUNCTION).any(|(at, _)| {
        !in_word(template[..at].chars().next_back()) && template[at + FUNCTION.len()..].trim_start().starts_with('(')
    })
}

/// Lets templates call [`FUNCTION`], if this one does; a column may have its name.
pub fn prepare(environment: &mut Environment<'_>, template: &str) {
    if calls_function(template) {
        environment.add_function(FUNCTION, |name: String| format!("{ENTRY}{name}{END}"));
    }
}

/// What stands for a special token while a template is filled in.
pub fn placeholder(name: &str) -> String {
    format!("{NAMED}{name}{END}")
}

/// A row's value without what would be taken for a special token.
pub fn without_marks(value: &str) -> String {
    value.replace([NAMED, ENTRY, END], "")
}

/// Takes a filled-in template apart.
pub fn pieces(text: &str) -> Vec<Piece<'_>> {
    let mut pieces = Vec::new();
    let mut rest = text;
    while let Some((at, mark)) = rest.char_indices().find(|(_, character)| [NAMED, ENTRY].contains(character)) {
        let (before, behind) = (&rest[..at], &rest[at + mark.len_utf8()..]);
        let (name, after) = behind.split_once(END).unwrap_or((behind, ""));
        if !before.is_empty() {
            pieces.push(Piece::Text(before));
        }
        pieces.push(match named(name).filter(|_| mark == NAMED) {
            Some(special) => Piece::Special(special),
            None => Piece::Entry(name),
        });
        rest = after;
    }
    if !rest.is_empty() || pieces.is_empty() {
        pieces.push(Piece::Text(rest));
    }
    pieces
}

/// A filled-in template as people read it.
pub fn readable(text: &str) -> String {
    let part = |piece| match piece {
        Piece::Text(text) => text.to_owned(),
        Piece::Special(special) => special.name().to_owned(),
        Piece::Entry(name) => name.to_owned(),
    };
    pieces(text).into_iter().map(part).collect()
}

/// The id of a piece that isn't text.
///
/// # Errors
/// If the tokenizer has no such token.
pub fn id(piece: Piece<'_>, specials: &Specials, entry: &dyn Fn(&str) -> Option<u32>) -> Result<u32> {
    match piece {
        Piece::Special(special) => {
            specials.require("the template", &[special])?;
            Ok(specials.id(special))
        }
        Piece::Entry(name) | Piece::Text(name) => match entry(name).filter(|&id| id != ABSENT) {
            Some(id) => Ok(id),
            None => bail!(Hinted::with(
                format!("the template asks for the token `{name}`, which this tokenizer lacks"),
                "name an entry of the tokenizer's vocabulary",
            )),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_are_told_from_text_that_spells_them() {
        let text = format!("a [SEP] sep{}b{ENTRY}<|user|>{END}", placeholder("sep"));
        let expected =
            [Piece::Text("a [SEP] sep"), Piece::Special(Special::Sep), Piece::Text("b"), Piece::Entry("<|user|>")];
        assert_eq!(pieces(&text), expected);
        assert_eq!(pieces(""), [Piece::Text("")]);
        assert_eq!(readable(&text), "a [SEP] sep[SEP]b<|user|>");
        assert_eq!(pieces(&without_marks(&text)), [Piece::Text("a [SEP] sepsepb<|user|>")]);
    }

    #[test]
    fn a_column_may_be_called_as_the_function_is() {
        assert!(calls_function("{{ token('x') }}") && calls_function("{{token (x)}}"));
        assert!(!calls_function("{{ token }} (a)") && !calls_function("{{ row.token(1) }}{{ my_token(1) }}"));
    }
}
