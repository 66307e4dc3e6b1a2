//! What the tests of objectives share: documents in memory, special tokens, settings out of JSON.

use std::{borrow::Cow, sync::Arc};

use anyhow::{Context, Result};
use pipe::{
    learning::objectives::{AnswerForm, Corpus, Specials, TokenizedDocument, TokenizedText},
    network::batch::Example,
};
use serde::de::DeserializeOwned;

/// Ids 0 to 8 are special, 9 and above are text.
pub(crate) const SPECIALS: Specials =
    Specials { pad: 0, unk: 1, cls: 2, sep: 3, mask: 4, gmask: 5, smask: 6, sop: 7, eop: 8, vocab_size: 1000 };

/// The first id that isn't special.
pub(crate) const TEXT: u32 = 9;

/// Documents as lists of sentences.
#[derive(Clone, Debug)]
pub(crate) struct Documents(pub(crate) Vec<Vec<Vec<u32>>>);

impl TokenizedText for Documents {
    fn documents(&self) -> usize {
        self.0.len()
    }

    fn document(&self, index: usize) -> Result<TokenizedDocument<'_>> {
        let sentences = self.0.get(index).context("no such document")?;
        let ends = sentences.iter().scan(0, |end, sentence| {
            *end += sentence.len() as u32;
            Some(*end)
        });
        Ok(TokenizedDocument { tokens: Cow::Owned(sentences.concat()), sentence_ends: Cow::Owned(ends.collect()) })
    }
}

/// A corpus of documents, given as the lengths of their sentences; the tokens count up from [`TEXT`].
pub(crate) fn documents(lengths: &[&[usize]]) -> Documents {
    let mut next = TEXT - 1;
    let mut sentence = |length: usize| -> Vec<u32> {
        (0..length)
            .map(|_| {
                next = if next + 1 == SPECIALS.vocab_size as u32 { TEXT } else { next + 1 };
                next
            })
            .collect()
    };
    Documents(lengths.iter().map(|document| document.iter().map(|&length| sentence(length)).collect()).collect())
}

pub(crate) fn corpus(documents: &Documents) -> Corpus {
    Corpus { text: Arc::new(documents.clone()), specials: SPECIALS, form: AnswerForm::Infilling }
}

/// A part of a recipe, with its defaults.
pub(crate) fn spec<T: DeserializeOwned>(json: serde_json::Value) -> T {
    serde_json::from_value(json).expect("the test's JSON is a part of a recipe")
}

/// For each token the keys it sees, as the token ids of its example, before the layout.
pub(crate) fn seen(example: &Example) -> Vec<Vec<u32>> {
    example.span_ends.iter().map(|&visible| example.tokens[..visible as usize].to_vec()).collect()
}

/// The targets as (index, token).
pub(crate) fn targets(example: &Example) -> Vec<(u32, u32)> {
    example.targets.iter().map(|target| (target.at, target.token)).collect()
}
