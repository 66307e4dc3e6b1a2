//! Encoded documents, as objectives read them.

use std::{borrow::Cow, sync::Arc};

use anyhow::Result;

use super::{AnswerForm, Specials};

/// Encoded documents.
pub trait TokenizedText: Send + Sync {
    /// How many documents there are.
    fn documents(&self) -> usize;

    /// A document by its index.
    ///
    /// # Errors
    ///
    /// Where it can't be read.
    fn document(&self, index: usize) -> Result<TokenizedDocument<'_>>;

    /// Of each token of a document, whether it continues the word of the one before it; tokens that nothing is said of
    /// are words by themselves. Asked for only where whole words are masked.
    ///
    /// # Errors
    ///
    /// Where it can't be read.
    fn continuations(&self, _index: usize) -> Result<Vec<bool>> {
        Ok(Vec::new())
    }
}

/// One document.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct TokenizedDocument<'a> {
    /// Token ids, without special tokens.
    pub tokens: Cow<'a, [u32]>,
    /// The end of each sentence in `tokens`, rising; what follows the last one counts as a sentence too.
    pub sentence_ends: Cow<'a, [u32]>,
}

impl TokenizedDocument<'_> {
    /// Whether a sentence ends just before this token.
    pub fn ends_sentence(&self, at: usize) -> bool {
        u32::try_from(at).is_ok_and(|at| self.sentence_ends.binary_search(&at).is_ok())
    }
}

/// What language models learn from: encoded documents, and what their ids mean.
#[derive(Clone)]
pub struct Corpus {
    /// The documents.
    pub text: Arc<dyn TokenizedText>,
    /// The special tokens.
    pub specials: Specials,
    /// How texts stand in the model's sequences.
    pub form: AnswerForm,
}

impl Corpus {
    /// Tokens that stand around a text that is read or learned by itself: what stands before and behind it, and what ends it.
    pub fn frame(&self) -> usize {
        self.form.beginning(&self.specials).len() + self.form.behind(&self.specials).len() + 1
    }

    /// Tokens of text that fit into a sequence, one at least.
    pub fn room(&self, max_length: usize) -> usize {
        max_length.saturating_sub(self.frame()).max(1)
    }
}
