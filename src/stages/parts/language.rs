//! Encoded corpora as language-model objectives read them.

use std::{
    borrow::Cow,
    collections::BTreeSet,
    ops::Deref,
    path::{Path, PathBuf},
    sync::{Arc, OnceLock},
};

use anyhow::{Context, Result, ensure};

use crate::{
    data,
    data::{
        CorpusWords,
        text::{Pieces, Tokenizer},
        words_file,
    },
    learning::objectives::{self, AnswerForm, TokenizedDocument, TokenizedText},
};

/// The corpora of a tokenize stage.
pub(in crate::stages) struct Encoded {
    corpus: Arc<data::Corpus>,
    /// Where they lie.
    directory: PathBuf,
    words: OnceLock<Arc<CorpusWords>>,
}

impl Deref for Encoded {
    type Target = data::Corpus;

    fn deref(&self) -> &data::Corpus {
        &self.corpus
    }
}

impl Encoded {
    /// Their words, kept beside them, since every stage that reads them finds the same.
    fn words(&self, pieces: &Arc<Pieces>) -> &CorpusWords {
        let open = || {
            let file = self.directory.join(words_file());
            CorpusWords::open(Arc::clone(&self.corpus), Arc::clone(pieces), file)
        };
        self.words.get_or_init(open)
    }
}

/// The documents of a corpus, or some of them.
struct Documents {
    corpus: Arc<Encoded>,
    pieces: Arc<Pieces>,
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

    fn continuations(&self, index: usize) -> Result<Vec<bool>> {
        Ok(self.corpus.words(&self.pieces).continuations(self.chosen[index]))
    }
}

/// Loads the corpora of a tokenize stage.
pub(in crate::stages) fn load(dir: &Path) -> Result<Arc<Encoded>> {
    let corpus = data::Corpus::load(dir)?;
    ensure!(!corpus.is_empty(), "the tokenize stage has no `corpus`, so there is no text");
    Ok(Arc::new(Encoded { corpus: Arc::new(corpus), directory: dir.to_owned(), words: OnceLock::new() }))
}

/// The documents that `wanted` chooses by their hashes, ready for objectives of models with this form.
pub(in crate::stages) fn corpus(
    corpus: &Arc<Encoded>,
    tokenizer: &Tokenizer,
    form: AnswerForm,
    wanted: impl Fn(u64) -> bool,
) -> objectives::Corpus {
    let chosen = (0..corpus.len()).filter(|&index| wanted(corpus.hashes()[index])).collect();
    let pieces = Arc::new(Pieces::of(tokenizer));
    let text = Arc::new(Documents { corpus: Arc::clone(corpus), pieces, chosen });
    objectives::Corpus { text, specials: tokenizer.special, form }
}

/// Characters of the documents that `wanted` chooses. `counted` is what the tokenize stage has counted in all texts: tokens
/// spell a text without what the tokenizer's normalizer has taken out, so a part of the documents is given the part of
/// the count that their tokens spell.
pub(in crate::stages) fn characters(
    corpus: &data::Corpus,
    tokenizer: &Tokenizer,
    counted: Option<u64>,
    wanted: impl Fn(u64) -> bool,
) -> Result<u64> {
    let all = corpus.hashes().iter().all(|&hash| wanted(hash));
    if let (Some(counted), true) = (counted, all) {
        return Ok(counted);
    }
    let (mut part, mut whole) = (0_u64, 0_u64);
    for document in corpus.documents() {
        let spelt = tokenizer.decode(&document.ids(), true)?.chars().count() as u64;
        whole += spelt;
        part += if wanted(document.hash()) { spelt } else { 0 };
    }
    let share = |counted: u64| (counted as f64 * part as f64 / whole.max(1) as f64).round() as u64;
    Ok(counted.map_or(part, share))
}

/// Hashes of all documents.
pub(in crate::stages) fn hashes(corpus: &data::Corpus) -> BTreeSet<u64> {
    corpus.hashes().iter().copied().collect()
}
