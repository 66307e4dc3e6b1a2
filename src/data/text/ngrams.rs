//! The n-grams of a text, hashed to buckets: what linear classifiers read.
//!
//! A text is folded first: full-width forms of ASCII become the narrow ones, and letters lower case. It's then cut into
//! [units](crate::support::units()): single characters of East Asian scripts and marks, and whole words of others. Its
//! beginning and its end are units too, and so is white space, but for that between two words. Features are runs of one to
//! three units, so that of Chinese they are its character n-grams; and of words in addition their parts, runs of three to five
//! characters with `<` and `>` where the word begins and ends, as fastText has them (Bojanowski et al. 2017,
//! <https://aclanthology.org/Q17-1010>).
//!
//! Each column of a row has features of its own. Where there are several, what all of them have is a feature once more: of a
//! question and its paraphrase it tells most what both say.

use crate::support::{Unit, random::Key, units};

/// Units of a run at most.
const LONGEST: usize = 3;
/// Characters of a part of a word.
const PARTS: std::ops::RangeInclusive<usize> = 3..=5;
/// Units of a column that are read; what stands behind them isn't.
const UNITS: usize = 4096;

// Units that no character is.
const BEGINNING: u64 = 1 << 32;
const END: u64 = 2 << 32;
const SPACE: u64 = 3 << 32;

/// Which n-grams are features, and into how many buckets they go.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct NGrams {
    /// The binary logarithm of the number of buckets, up to 32.
    pub bits: u32,
}

impl NGrams {
    /// The buckets of a row's n-grams, ascending, each with how often it occurs.
    pub fn counts(self, columns: &[&str]) -> Vec<(u32, u32)> {
        let mut grams: Vec<Vec<u64>> = columns.iter().map(|text| grams(text)).collect();
        let bucket = |column: usize, gram: &u64| {
            let hash = Key::new(column as u64).at(*gram).u64();
            (hash >> (64 - self.bits.clamp(1, 32))) as u32
        };
        let own = grams.iter().enumerate().flat_map(|(column, grams)| grams.iter().map(move |gram| bucket(column, gram)));
        let mut buckets: Vec<u32> = own.collect();
        if columns.len() > 1 {
            for grams in &mut grams {
                grams.sort_unstable();
                grams.dedup();
            }
            let [first, others @ ..] = grams.as_slice() else { return Vec::new() };
            let shared = first.iter().filter(|gram| others.iter().all(|other| other.binary_search(gram).is_ok()));
            buckets.extend(shared.map(|gram| bucket(columns.len(), gram)));
        }
        buckets.sort_unstable();
        buckets.chunk_by(|a, b| a == b).map(|same| (same[0], same.len() as u32)).collect()
    }
}

/// A hash of each n-gram of a text.
fn grams(text: &str) -> Vec<u64> {
    let mut hashes = Vec::with_capacity(text.len() / 3);
    hashes.push(BEGINNING);
    let mut found = Vec::new();
    let (mut after_word, mut after_space) = (false, false);
    units(text.trim().chars().map(narrow).flat_map(char::to_lowercase), |unit| {
        if hashes.len() > UNITS {
            return;
        }
        if after_space && !(after_word && matches!(unit, Unit::Word(_))) {
            hashes.push(SPACE);
        }
        after_space = unit == Unit::Space;
        match unit {
            Unit::Space => return,
            Unit::Character(character) => hashes.push(u64::from(u32::from(character))),
            Unit::Word(word) => {
                parts(word, &mut found);
                hashes.push(Key::new(0).with(word).u64());
            }
        }
        after_word = matches!(unit, Unit::Word(_));
    });
    hashes.push(END);
    for length in 1..=LONGEST {
        let gram = |run: &[u64]| run.iter().fold(Key::new(length as u64), |key, unit| key.at(*unit)).u64();
        found.extend(hashes.windows(length).map(gram));
    }
    found
}

/// Hashes of the parts of a word of two characters or more.
fn parts(word: &str, found: &mut Vec<u64>) {
    if word.chars().nth(1).is_none() {
        return;
    }
    let framed: Vec<char> = std::iter::once('<').chain(word.chars()).chain(['>']).collect();
    for length in PARTS {
        let part = |part: &[char]| part.iter().fold(Key::new(16 + length as u64), |key, unit| key.at(u64::from(u32::from(*unit)))).u64();
        found.extend(framed.windows(length).map(part));
    }
}

/// Of a full-width form of ASCII (U+FF01 to U+FF5E) the narrow one.
fn narrow(character: char) -> char {
    match character {
        '\u{FF01}'..='\u{FF5E}' => char::from_u32(u32::from(character) - 0xFEE0).unwrap_or(character),
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const WIDE: NGrams = NGrams { bits: 30 };

    /// How many n-grams there are, and how many distinct ones.
    fn sizes(columns: &[&str]) -> (u32, usize) {
        let counts = WIDE.counts(columns);
        (counts.iter().map(|(_, count)| count).sum(), counts.len())
    }

    #[test]
    fn chinese_has_its_character_n_grams() {
        // Of ^我是是$ five, four and three; 是 is there twice.
        assert_eq!(sizes(&["我是是"]), (12, 11));
        // Of ^我 是$.
        assert_eq!(sizes(&[" 我 \u{3000}是"]), (12, 12));
        assert_eq!(WIDE.counts(&["我 是"]), WIDE.counts(&["我\n是\t"]));
        assert_eq!(sizes(&[""]), (3, 3));
    }

    #[test]
    fn words_have_parts_and_letters_one_case_and_width() {
        // Of ^ab$ three, two and one; <ab, ab>, <ab>.
        assert_eq!(sizes(&["ab"]), (9, 9));
        assert_eq!(WIDE.counts(&["ＡＢ！"]), WIDE.counts(&["ab!"]));
        assert_eq!(sizes(&["a"]), (6, 6));
        // Of ^a b$, for white space between words is none of it: nor is there more to the word's n-grams.
        assert_eq!(sizes(&["a b"]), (9, 9));
        assert_eq!(sizes(&["a 是"]), (12, 12));
    }

    #[test]
    fn columns_are_told_apart_and_what_they_share_is_told_too() {
        // Six of each; of what both have, ^ and $, or all.
        assert_eq!((sizes(&["甲", "乙"]).1, sizes(&["甲", "甲"]).1), (14, 18));
        assert_ne!(WIDE.counts(&["甲", "乙"]), WIDE.counts(&["乙", "甲"]));
    }

    #[test]
    fn buckets_are_below_their_number() {
        assert!(NGrams { bits: 4 }.counts(&["天地玄黄宇宙洪荒"]).iter().all(|(bucket, _)| *bucket < 16));
        let long = "字".repeat(2 * UNITS);
        assert_eq!(WIDE.counts(&[&long]).iter().map(|(_, count)| *count as usize).sum::<usize>(), 3 * (UNITS + 2) - 3);
    }
}
