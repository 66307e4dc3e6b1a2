//! Counting the words that a tokenizer's normalizer and pre-tokenizer make of texts.

use std::collections::{BTreeMap, HashMap};

use anyhow::{Error, Result};
use rayon::prelude::*;
use tokenizers::{NormalizedString, Normalizer, OffsetReferential, OffsetType, PreTokenizedString, PreTokenizer};

/// Of the room that special tokens and bytes leave, the share that single characters may take at most.
pub(super) const ALPHABET_SHARE: f64 = 0.75;

/// Words with how often they occur, sorted.
pub(super) fn count(tokenizer: &tokenizers::Tokenizer, texts: &[String]) -> Result<Vec<(String, u64)>> {
    let counts = texts.par_iter().with_min_len(16).try_fold(HashMap::new, |mut counts, text| {
        count_text(tokenizer, text, &mut counts)?;
        Ok(counts)
    });
    let counts = counts.try_reduce(HashMap::new, |a, b| {
        let (mut more, fewer) = if a.len() < b.len() { (b, a) } else { (a, b) };
        for (word, count) in fewer {
            *more.entry(word).or_default() += count;
        }
        Ok::<_, Error>(more)
    })?;
    let mut words: Vec<_> = counts.into_iter().collect();
    words.par_sort_unstable();
    Ok(words)
}

fn count_text(tokenizer: &tokenizers::Tokenizer, text: &str, counts: &mut HashMap<String, u64>) -> Result<()> {
    let mut normalized = NormalizedString::from(text);
    if let Some(normalizer) = tokenizer.get_normalizer() {
        normalizer.normalize(&mut normalized).map_err(Error::from_boxed)?;
    }
    let mut split = PreTokenizedString::from(normalized);
    if let Some(pre_tokenizer) = tokenizer.get_pre_tokenizer() {
        pre_tokenizer.pre_tokenize(&mut split).map_err(Error::from_boxed)?;
    }
    for (word, _, _) in split.get_splits(OffsetReferential::Normalized, OffsetType::None) {
        match counts.get_mut(word) {
            Some(count) => *count += 1,
            None => {
                counts.insert(word.to_owned(), 1);
            }
        }
    }
    Ok(())
}

/// How often each character occurs.
pub(super) fn characters(words: &[(String, u64)]) -> BTreeMap<char, u64> {
    let mut counts = BTreeMap::new();
    for (word, count) in words {
        for character in word.chars() {
            *counts.entry(character).or_default() += count;
        }
    }
    counts
}

/// The most frequent entries, most frequent first, those of equal frequency in their order.
pub(super) fn most_frequent<T: Ord>(counts: BTreeMap<T, u64>, most: usize) -> Vec<(T, u64)> {
    let mut counts: Vec<_> = counts.into_iter().collect();
    counts.sort_by_key(|&(_, count)| std::cmp::Reverse(count));
    counts.truncate(most);
    counts
}
