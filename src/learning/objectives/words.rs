//! Which tokens make a word, for whole-word masking without a dictionary.

use std::{
    collections::{HashMap, HashSet},
    ops::Range,
    sync::Arc,
};

use anyhow::Result;

use super::{Corpus, TokenizedText, windows::for_each_document};

/// Two characters are joined where they stand side by side this many times as often as chance would have it (3 bits
/// of pointwise mutual information) …
const RATIO: f64 = 8.0;
/// … and at least this often.
const COUNT: u32 = 5;
/// Most Chinese words have two characters, hardly any more than four.
const LONGEST: usize = 4;
/// Tokens that are counted; more wouldn't change the common pairs, but memory grows with the rare ones.
const TOKENS: usize = 4_000_000;

/// Tells which tokens belong to the one before them.
///
/// * WordPiece: `##` pieces belong to their head.
/// * Chinese characters that are tokens of their own, as in WordPiece: two of them are joined where the corpus has them
///   side by side far more often than their frequencies explain, up to four in a run.
/// * Any other token is a word by itself; pieces of unigram and byte-pair vocabularies span several characters already.
#[derive(Clone, Debug, Default)]
pub struct Words {
    continuations: HashSet<u32>,
    joined: HashSet<(u32, u32)>,
}

impl Words {
    /// Counts a corpus whose token ids stand for these pieces.
    ///
    /// # Errors
    ///
    /// Where a document can't be read.
    pub fn new(text: &dyn TokenizedText, vocabulary: &[String]) -> Result<Self> {
        let ids = |is: fn(&str) -> bool| -> HashSet<u32> {
            (0..).zip(vocabulary).filter(|(_, piece)| is(piece)).map(|(id, _)| id).collect()
        };
        let continuations = ids(|piece| piece.len() > 2 && piece.starts_with("##"));
        let characters = ids(is_chinese_character);

        let mut seen = 0;
        let mut singles: HashMap<u32, u32> = HashMap::new();
        let mut pairs: HashMap<(u32, u32), u32> = HashMap::new();
        for_each_document(text, |_, document| {
            if seen >= TOKENS {
                return;
            }
            seen += document.tokens.len();
            let mut before = None;
            for &token in document.tokens.iter() {
                let character = characters.contains(&token).then_some(token);
                if let Some(second) = character {
                    *singles.entry(second).or_default() += 1;
                    if let Some(first) = before {
                        *pairs.entry((first, second)).or_default() += 1;
                    }
                }
                before = character;
            }
        })?;

        let total: f64 = singles.values().map(|&count| f64::from(count)).sum();
        let often = |&(first, second): &(u32, u32), count: u32| {
            let expected = f64::from(singles[&first]) * f64::from(singles[&second]) / total;
            count >= COUNT && f64::from(count) >= RATIO * expected
        };
        let joined = pairs.iter().filter(|&(pair, &count)| often(pair, count)).map(|(pair, _)| *pair).collect();
        Ok(Self { continuations, joined })
    }

    /// The words among tokens, as ranges that cover them.
    pub fn split(&self, tokens: &[u32]) -> Vec<Range<usize>> {
        let mut words: Vec<Range<usize>> = Vec::new();
        for (index, &token) in tokens.iter().enumerate() {
            match words.last_mut() {
                Some(word) if self.continues(&tokens[word.clone()], token) => word.end = index + 1,
                _ => words.push(index..index + 1),
            }
        }
        words
    }

    fn continues(&self, word: &[u32], token: u32) -> bool {
        self.continuations.contains(&token)
            || word.len() < LONGEST && word.last().is_some_and(|&last| self.joined.contains(&(last, token)))
    }
}

/// The words of one corpus, counted when the first objective asks for them.
#[derive(Debug, Default)]
pub struct WordCounts(Option<Arc<Words>>);

impl WordCounts {
    /// The words of the corpus, always the same one.
    ///
    /// # Errors
    ///
    /// As [`Words::new`].
    pub fn of(&mut self, corpus: &Corpus) -> Result<Arc<Words>> {
        let words = match self.0.take() {
            Some(words) => words,
            None => Arc::new(Words::new(corpus.text.as_ref(), &corpus.vocabulary)?),
        };
        Ok(Arc::clone(self.0.insert(words)))
    }
}

/// Whether the piece is one character out of the blocks of unified ideographs.
fn is_chinese_character(piece: &str) -> bool {
    let mut characters = piece.chars();
    matches!(
        (characters.next(), characters.next()),
        (
            Some(
                '\u{3400}'..='\u{4DBF}' | '\u{4E00}'..='\u{9FFF}' | '\u{F900}'..='\u{FAFF}' | '\u{20000}'..='\u{323AF}',
            ),
            None,
        )
    )
}
