//! What the entries of a vocabulary spell, so that ids can be put together to the text that they came from, with the place of
//! each: which tokens make a word is found in it.

use std::ops::Range;

use serde::Serialize;
use serde_json::Value;
use tokenizers::ModelWrapper;

use super::{
    Tokenizer,
    load::letters,
    segment::{is_ideograph, is_spaced, word_starts},
};

/// Stands for a special token: neither a letter nor a space.
const SPECIAL: &str = "\u{FFFC}";
/// Stands for each byte that isn't a part of a character.
const BROKEN: u8 = 0x1A;
/// What SentencePiece writes for a space.
const SPACE: char = '▁';

/// The entries of a vocabulary, by id.
#[derive(Clone, Debug, Default)]
pub struct Pieces(Vec<Piece>);

#[derive(Clone, Debug, Default)]
struct Piece {
    /// What it adds to a text; one token may have a part of a character only.
    bytes: Vec<u8>,
    side: Side,
}

/// How a piece stands to what is before it.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
enum Side {
    /// It says itself whether there's a space.
    #[default]
    Spelt,
    /// There was a space or something else that ends a word: what doesn't continue a word in WordPiece.
    Head,
    /// There was none: WordPiece's `##`.
    Tail,
}

/// How a vocabulary writes text.
enum Scheme {
    /// Each byte as a letter.
    Bytes(Box<[char; 256]>),
    /// Words, and pieces that continue them behind a prefix.
    Words(String),
    /// Spaces as `▁`, single bytes as `<0xE5>`; a suffix may mark where words end.
    Spaces(Option<String>),
}

impl Pieces {
    /// Those of a tokenizer.
    pub fn of(tokenizer: &Tokenizer) -> Self {
        let scheme = Scheme::of(tokenizer.library());
        let piece = |id: u32| match tokenizer.token(id) {
            // A vocabulary may have gaps, which no text ever uses.
            None => Piece::default(),
            Some(_) if tokenizer.special.contains(id) => Piece { bytes: SPECIAL.into(), side: Side::Spelt },
            Some(name) => scheme.piece(&name),
        };
        Self((0..tokenizer.vocab_size() as u32).map(piece).collect())
    }

    /// Of each token of a document, whether it continues the word of the one before it. A space before a word belongs to
    /// it. A token with parts of two words joins them.
    pub fn continuations(&self, tokens: &[u32]) -> Vec<bool> {
        let (text, places) = self.spell(tokens);
        let starts = word_starts(&text);
        let mut starts = starts.iter().copied().peekable();
        let mut continues = Vec::with_capacity(tokens.len());
        for (&token, &at) in tokens.iter().zip(&places) {
            while starts.next_if(|&start| start < at).is_some() {}
            let is_tail = self.0.get(token as usize).is_some_and(|piece| piece.side == Side::Tail);
            let may_begin = !is_tail || is_chinese(&text, at);
            let begins = may_begin && starts.peek() == Some(&at) && !follows_space(&text, at);
            // What adds nothing to the text, such as the rest of a gap, is a word by itself.
            continues.push(at > 0 && !begins);
        }
        continues
    }

    /// The text of some tokens, and the byte at which each begins.
    fn spell(&self, tokens: &[u32]) -> (String, Vec<usize>) {
        let mut bytes = Vec::with_capacity(4 * tokens.len());
        let mut places = Vec::with_capacity(tokens.len());
        let mut last = None;
        for &token in tokens {
            places.push(bytes.len());
            let Some(piece) = self.0.get(token as usize) else { continue };
            if piece.side == Side::Head && last.is_some_and(is_spaced) && first(&piece.bytes).is_some_and(is_spaced) {
                bytes.push(b' ');
            }
            bytes.extend(&piece.bytes);
            if piece.side != Side::Spelt {
                last = str::from_utf8(&piece.bytes).ok().and_then(|text| text.chars().next_back());
            }
        }
        (readable(bytes), places)
    }
}

/// The first character.
fn first(bytes: &[u8]) -> Option<char> {
    str::from_utf8(bytes).ok()?.chars().next()
}

/// Bytes as text; those that are no character's are replaced one by one, so that every place stays.
fn readable(mut bytes: Vec<u8>) -> String {
    let mut broken: Vec<Range<usize>> = Vec::new();
    let mut at = 0;
    for chunk in bytes.utf8_chunks() {
        let start = at + chunk.valid().len();
        at = start + chunk.invalid().len();
        broken.push(start..at);
    }
    for range in broken {
        bytes[range].fill(BROKEN);
    }
    String::from_utf8(bytes).unwrap_or_default()
}

/// Whether a word's first character stands right behind a space.
fn follows_space(text: &str, at: usize) -> bool {
    text[..at].ends_with(' ') && !text[at..].starts_with(char::is_whitespace)
}

/// Whether one of the characters on both sides of a place is Chinese.
fn is_chinese(text: &str, at: usize) -> bool {
    text[..at].ends_with(is_ideograph) || text[at..].starts_with(is_ideograph)
}

impl Scheme {
    fn of(tokenizer: &tokenizers::Tokenizer) -> Self {
        if has_byte_level(tokenizer.get_pre_tokenizer()) || has_byte_level(tokenizer.get_decoder()) {
            return Self::Bytes(Box::new(letters()));
        }
        match tokenizer.get_model() {
            ModelWrapper::WordPiece(model) => Self::Words(model.continuing_subword_prefix.clone()),
            ModelWrapper::WordLevel(_) => Self::Words(String::new()),
            ModelWrapper::BPE(model) => match &model.continuing_subword_prefix {
                Some(prefix) if !prefix.is_empty() => Self::Words(prefix.clone()),
                _ => Self::Spaces(model.end_of_word_suffix.clone().filter(|suffix| !suffix.is_empty())),
            },
            ModelWrapper::Unigram(_) => Self::Spaces(None),
        }
    }

    fn piece(&self, name: &str) -> Piece {
        let spelt = |bytes: Vec<u8>| Piece { bytes, side: Side::Spelt };
        match self {
            Self::Bytes(letters) => {
                let byte = |letter: char| letters.iter().position(|&known| known == letter).map(|byte| byte as u8);
                // Tokens that were added are written as they are.
                spelt(name.chars().map(byte).collect::<Option<_>>().unwrap_or_else(|| name.into()))
            }
            Self::Words(prefix) => match name.strip_prefix(prefix.as_str()).filter(|rest| !rest.is_empty()) {
                Some(rest) if !prefix.is_empty() => Piece { bytes: rest.into(), side: Side::Tail },
                _ => Piece { bytes: name.into(), side: Side::Head },
            },
            Self::Spaces(suffix) => match (byte(name), suffix) {
                (Some(byte), _) => spelt(vec![byte]),
                (None, Some(suffix)) => spelt(match name.strip_suffix(suffix.as_str()) {
                    Some(word) => format!("{word} ").into(),
                    None => name.into(),
                }),
                (None, None) => spelt(name.replace(SPACE, " ").into()),
            },
        }
    }
}

/// A byte that is written as `<0xE5>`.
fn byte(name: &str) -> Option<u8> {
    let digits = name.strip_prefix("<0x")?.strip_suffix('>')?;
    if digits.len() == 2 { u8::from_str_radix(digits, 16).ok() } else { None }
}

/// Whether a part of a tokenizer spells bytes, or has a part that does.
fn has_byte_level(part: Option<&impl Serialize>) -> bool {
    fn has(part: &Value) -> bool {
        match part {
            Value::Object(fields) => {
                fields.get("type").is_some_and(|kind| kind == "ByteLevel") || fields.values().any(has)
            }
            Value::Array(parts) => parts.iter().any(has),
            _ => false,
        }
    }
    part.and_then(|part| serde_json::to_value(part).ok()).is_some_and(|part| has(&part))
}
