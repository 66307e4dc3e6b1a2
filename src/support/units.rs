//! What a text is made of where words aren't separated: each character is a unit, but runs of letters and digits outside the
//! East Asian scripts are units as a whole, so that English words and figures count like characters of Chinese.

/// Where East Asian scripts begin in Unicode (CJK radicals); from here on every character is a unit of its own.
const EAST_ASIAN: char = '\u{2E80}';

/// A part of a text that features are made of.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Unit<'a> {
    /// A character.
    Character(char),
    /// A run of letters and digits of a script that separates words.
    Word(&'a str),
    /// A run of white space.
    Space,
}

/// Cuts a text, given as characters, into units.
pub fn units(text: impl IntoIterator<Item = char>, mut found: impl FnMut(Unit<'_>)) {
    let mut word = String::new();
    let mut in_space = false;
    for character in text {
        if character < EAST_ASIAN && character.is_alphanumeric() {
            word.push(character);
            in_space = false;
            continue;
        }
        if !word.is_empty() {
            found(Unit::Word(&word));
            word.clear();
        }
        if !character.is_whitespace() {
            found(Unit::Character(character));
        } else if !in_space {
            found(Unit::Space);
        }
        in_space = character.is_whitespace();
    }
    if !word.is_empty() {
        found(Unit::Word(&word));
    }
}
