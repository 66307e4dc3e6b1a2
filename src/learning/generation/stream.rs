//! Tokens as they come, to text as it can be shown.

use anyhow::Result;

use crate::data::text::Tokenizer;

/// What decoders show for bytes that aren't a whole character.
const INCOMPLETE: char = '\u{fffd}';

/// Tokens before a text that it's decoded with.
const CONTEXT: usize = 16;

/// Text that grows by tokens: characters are held back until all their bytes are there, and what could be the beginning
/// of a stop string until it's known that it isn't.
pub struct TextStream<'a> {
    tokenizer: &'a Tokenizer,
    stop: &'a [String],
    tokens: Vec<u32>,
    /// The text of the tokens before `read` has been taken; to decode what follows, those from `context` on are needed,
    /// since a token's text depends on the one before it.
    context: usize,
    read: usize,
    held: String,
    /// Whether the white space that the text begins with is there already.
    spaced: bool,
}

/// What a token adds.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct TextPiece {
    /// Text that can be shown.
    pub text: String,
    /// Whether a stop string came after it.
    pub stopped: bool,
}

impl<'a> TextStream<'a> {
    /// Without any text.
    pub fn new(tokenizer: &'a Tokenizer, stop: &'a [String]) -> Self {
        Self { tokenizer, stop, tokens: Vec::new(), context: 0, read: 0, held: String::new(), spaced: false }
    }

    /// The text that follows another, of which these are the tokens: it's decoded with them before it, since tokenizers
    /// leave out the space in front of a text's first word.
    ///
    /// # Errors
    /// If one is outside the tokenizer's vocabulary.
    pub fn after(tokenizer: &'a Tokenizer, stop: &'a [String], text: &str, tokens: &[u32]) -> Result<Self> {
        let tokens = tokens[tokens.len().saturating_sub(CONTEXT)..].to_vec();
        // Some tokenizers have no tokens for the space at a text's end.
        let spaced =
            text.ends_with(char::is_whitespace) && !tokenizer.decode(&tokens, true)?.ends_with(char::is_whitespace);
        let read = tokens.len();
        Ok(Self { tokens, read, spaced, ..Self::new(tokenizer, stop) })
    }

    /// Adds a token.
    ///
    /// # Errors
    /// If it's outside the tokenizer's vocabulary.
    pub fn push(&mut self, token: u32) -> Result<TextPiece> {
        self.tokens.push(token);
        let new = self.decode()?;
        if new.is_empty() || new.ends_with(INCOMPLETE) {
            return Ok(TextPiece::default());
        }
        (self.context, self.read) = (self.read, self.tokens.len());
        let new = if std::mem::take(&mut self.spaced) { new.trim_start() } else { &new };
        self.held.push_str(new);
        let found = self.stop.iter().filter(|stop| !stop.is_empty()).filter_map(|stop| self.held.find(stop.as_str()));
        if let Some(at) = found.min() {
            self.held.truncate(at);
            return Ok(TextPiece { text: std::mem::take(&mut self.held), stopped: true });
        }
        let kept = self.held.split_off(self.held.len() - self.begun());
        Ok(TextPiece { text: std::mem::replace(&mut self.held, kept), stopped: false })
    }

    /// The rest of the text, but for a character that never became whole.
    ///
    /// # Errors
    /// As [`Self::push`].
    pub fn finish(mut self) -> Result<String> {
        let rest = self.decode()?;
        let rest = if self.spaced { rest.trim_start() } else { &rest };
        self.held.push_str(rest.trim_end_matches(INCOMPLETE));
        Ok(self.held)
    }

    /// The text of the tokens that weren't read.
    fn decode(&self) -> Result<String> {
        let before = self.tokenizer.decode(&self.tokens[self.context..self.read], true)?;
        let mut all = self.tokenizer.decode(&self.tokens[self.context..], true)?;
        let length = if all.is_char_boundary(before.len()) { before.len() } else { all.len() };
        Ok(all.split_off(length))
    }

    /// Bytes at the end of what is held that a stop string could begin with.
    fn begun(&self) -> usize {
        let ends = |length: &usize| {
            let end = &self.held.as_bytes()[self.held.len() - length..];
            self.stop.iter().any(|stop| stop.len() > *length && stop.as_bytes().starts_with(end))
        };
        let longest = self.stop.iter().map(String::len).max().unwrap_or(0).min(self.held.len());
        let at_characters = |length: &usize| self.held.is_char_boundary(self.held.len() - length);
        (1..=longest).rev().filter(at_characters).find(ends).unwrap_or(0)
    }
}
