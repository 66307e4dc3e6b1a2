//! Encoded corpora as language-model objectives read them.

use std::{borrow::Cow, collections::BTreeSet, path::Path, sync::Arc};

use anyhow::{Context, Result, ensure};

use crate::{
    data,
    data::text::Tokenizer,
    learning::objectives::{self, AnswerForm, TokenizedDocument, TokenizedText},
};

/// The documents of a corpus, or some of them.
struct Documents {
    corpus: Arc<data::Corpus>,
    chosen: Vec<usize>,
}

impl TokenizedText for Documents {
    fn documents(&self) -> usize {
        self.chosen.len()
    }

    fn document(&self, index: usize) -> Result<TokenizedDocument<'_>> {
        let document = self.corpus.document(self.chosen[index]).context("there is no such document")?;
        let start = document.tokens().start;
        let sentence_ends = document.sentences().map(|sentence| (sentence.end - start) as u32).collect();
        Ok(TokenizedDocument { tokens: Cow::Owned(document.ids()), sentence_ends: Cow::Owned(sentence_ends) })
    }
}

/// Loads the corpora of a tokenize stage.
pub(in crate::stages) fn load(dir: &Path) -> Result<Arc<data::Corpus>> {
    let corpus = data::Corpus::load(dir)?;
    ensure!(!corpus.is_empty(), "the tokenize stage has no `corpus`, so there is no text");
    Ok(Arc::new(corpus))
}

/// The documents that `wanted` chooses by their hashes, ready for objectives of models with this form.
pub(in crate::stages) fn corpus(
    corpus: &Arc<data::Corpus>,
    tokenizer: &Tokenizer,
    form: AnswerForm,
    wanted: impl Fn(u64) -> bool,
) -> objectives::Corpus {
    let chosen = (0..corpus.len()).filter(|&index| wanted(corpus.hashes()[index])).collect();
    // A vocabulary may have gaps, which no text ever uses.
    let name = |id: usize| tokenizer.token(id as u32).unwrap_or_default();
    let vocabulary: Arc<[String]> = (0..tokenizer.vocab_size()).map(name).collect();
    let text = Arc::new(Documents { corpus: Arc::clone(corpus), chosen });
    objectives::Corpus { text, vocabulary, specials: tokenizer.special, form }
}

/// Hashes of all documents.
pub(in crate::stages) fn hashes(corpus: &data::Corpus) -> BTreeSet<u64> {
    corpus.hashes().iter().copied().collect()
}
