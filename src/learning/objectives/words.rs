//! Words on their way from a corpus to whole-word masking: each token carries whether it continues the word of the one before
//! it, so that objectives which cut and exchange parts of documents take the words along without knowing of them.

use std::{borrow::Cow, ops::Range, sync::Arc};

use anyhow::Result;

use super::{TokenizedDocument, TokenizedText};

/// The bit of an id that says that the token continues a word. No vocabulary has as many entries.
const CONTINUES: u32 = 1 << 31;

/// A text whose ids carry the mark.
pub struct MarkedText(pub Arc<dyn TokenizedText>);

impl TokenizedText for MarkedText {
    fn documents(&self) -> usize {
        self.0.documents()
    }

    fn document(&self, index: usize) -> Result<TokenizedDocument<'_>> {
        let TokenizedDocument { tokens, sentence_ends } = self.0.document(index)?;
        let mut tokens = tokens.into_owned();
        for (token, continues) in tokens.iter_mut().zip(self.0.continuations(index)?) {
            *token |= if continues { CONTINUES } else { 0 };
        }
        Ok(TokenizedDocument { tokens: Cow::Owned(tokens), sentence_ends })
    }
}

/// Takes the marks off, and gives the words as ranges that cover the tokens: without marks each token is one.
pub fn take_words(tokens: &mut [u32]) -> Vec<Range<usize>> {
    let mut words: Vec<Range<usize>> = Vec::with_capacity(tokens.len());
    for (at, token) in tokens.iter_mut().enumerate() {
        match words.last_mut() {
            Some(word) if *token & CONTINUES != 0 => word.end = at + 1,
            _ => words.push(at..at + 1),
        }
        *token &= !CONTINUES;
    }
    words
}
