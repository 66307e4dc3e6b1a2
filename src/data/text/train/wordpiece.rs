//! WordPiece, as BERT has it; its pieces are found by byte-pair merging over characters.

use std::collections::{BTreeMap, HashMap};

use anyhow::{Error, Result};
use tokenizers::models::bpe::Vocab;
use tokenizers::models::wordpiece::WordPiece;

use super::merges::{Word, learn};
use super::words::{ALPHABET_SHARE, most_frequent};
use super::{assemble, words};
use crate::data::text::special;
use crate::spec;

/// What marks a piece that continues a word.
const PREFIX: &str = "##";

pub(super) fn train(spec: &spec::WordPiece, texts: &[String]) -> Result<tokenizers::Tokenizer> {
    let words = words::count(&assemble::bert(WordPiece::default(), spec.lowercase)?, texts)?;
    let mut letters: BTreeMap<String, u64> = BTreeMap::new();
    for (word, count) in &words {
        for letter in spell(word) {
            *letters.entry(letter).or_default() += count;
        }
    }
    letters.retain(|_, count| *count >= spec.min_frequency);
    let room = spec.vocab_size.saturating_sub(special::NAMES.len());
    let mut letters = most_frequent(letters, room).into_iter().map(|(letter, _)| letter);
    let mut alphabet: Vec<String> = letters.by_ref().take((room as f64 * ALPHABET_SHARE) as usize).collect();
    alphabet.sort_unstable();

    let mut tokens: Vec<String> = special::NAMES.map(String::from).into();
    tokens.extend(alphabet);
    let ids: HashMap<&str, u32> = tokens.iter().map(String::as_str).zip(0..).collect();
    // A word with a letter outside the alphabet is unknown as a whole.
    let word = |(word, count): &(String, u64)| {
        let tokens = spell(word).map(|letter| ids.get(letter.as_str()).copied()).collect::<Option<_>>()?;
        Some(Word { tokens, count: *count })
    };
    let words = words.iter().filter_map(word).collect();
    let mut learnt = learn(tokens, words, PREFIX, spec.vocab_size, spec.min_frequency);
    // In Chinese there may be little to merge: rarer characters take the room that's left.
    learnt.tokens.extend(letters.take(spec.vocab_size.saturating_sub(learnt.tokens.len())));
    let vocabulary: Vocab = learnt.tokens.into_iter().zip(0..).collect();
    let model = WordPiece::builder().vocab(vocabulary).unk_token("[UNK]".into()).build().map_err(Error::from_boxed)?;
    assemble::bert(model, spec.lowercase)
}

/// A word's characters, all but the first with the prefix.
fn spell(word: &str) -> impl Iterator<Item = String> {
    let prefixes = std::iter::once("").chain(std::iter::repeat(PREFIX));
    word.chars().zip(prefixes).map(|(character, prefix)| format!("{prefix}{character}"))
}
