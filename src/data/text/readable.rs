//! Tokens as people read them.

use std::collections::HashMap;

use super::{Tokenizer, load::letters};

/// Writes ids as people read them.
pub struct Readable<'a> {
    tokenizer: &'a Tokenizer,
    /// The byte that each letter stands for, of a vocabulary of bytes.
    bytes: Option<HashMap<char, u8>>,
}

impl<'a> Readable<'a> {
    /// Those of a tokenizer.
    pub fn of(tokenizer: &'a Tokenizer) -> Self {
        let bytes = || letters().into_iter().zip(0..=u8::MAX).collect();
        Self { tokenizer, bytes: tokenizer.is_byte_level().then(bytes) }
    }

    /// The vocabulary's entry with this id; of a vocabulary of bytes the text that they are, or the bytes themselves where
    /// they aren't whole characters, such as `<E4><BD>`.
    pub fn token(&self, id: u32) -> String {
        let Some(entry) = self.tokenizer.token(id) else { return format!("<id {id}>") };
        let bytes = self
            .bytes
            .as_ref()
            .and_then(|bytes| entry.chars().map(|letter| bytes.get(&letter).copied()).collect::<Option<Vec<u8>>>());
        match bytes.map(String::from_utf8) {
            None => entry,
            Some(Ok(text)) => text,
            Some(Err(error)) => error.as_bytes().iter().map(|byte| format!("<{byte:02X}>")).collect(),
        }
    }
}
