//! Encoded corpora as language-model objectives read them.

use std::{borrow::Cow, collections::BTreeSet, path::Path, sync::Arc};

use anyhow::{Result, ensure};

use super::task::specials;
use crate::{
    data,
    objectives::{self, Document, Text},
    text::Tokenizer,
};

/// The documents of a corpus, or some of them.
struct Documents {
    corpus: Arc<data::Corpus>,
    chosen: Vec<usize>,
}

impl Text for Documents {
    fn documents(&self) -> usize {
        self.chosen.len()
    }

    fn document(&self, index: usize) -> Result<Document<'_>> {
        let document = self.corpus.document(self.chosen[index]);
        Ok(Document { tokens: document.tokens, sentence_ends: Cow::Borrowed(document.sentence_ends) })
    }
}

/// Loads the corpora of a tokenize stage.
pub(super) fn load(dir: &Path) -> Result<Arc<data::Corpus>> {
    let corpus = data::Corpus::load(dir)?;
    ensure!(corpus.documents() > 0, "the tokenize stage has no `corpus`, so there is no text");
    Ok(Arc::new(corpus))
}

/// The documents that `wanted` chooses by their hashes, ready for objectives.
pub(super) fn corpus(
    corpus: &Arc<data::Corpus>,
    tokenizer: &Tokenizer,
    wanted: impl Fn(u64) -> bool,
) -> objectives::Corpus {
    let chosen = (0..corpus.documents()).filter(|&index| wanted(corpus.hash(index))).collect();
    // A vocabulary may have gaps, which no text ever uses.
    let name = |id: usize| tokenizer.token(id as u32).unwrap_or_default();
    let vocabulary: Arc<[String]> = (0..tokenizer.vocab_size()).map(name).collect();
    let text = Arc::new(Documents { corpus: Arc::clone(corpus), chosen });
    objectives::Corpus { text, vocabulary, specials: specials(tokenizer) }
}

/// Hashes of all documents.
pub(super) fn hashes(corpus: &data::Corpus) -> BTreeSet<u64> {
    (0..corpus.documents()).map(|index| corpus.hash(index)).collect()
}
