//! The text that a unigram model learns from, and the substrings that occur in it more than once.

use std::collections::BTreeMap;
use std::ops::Range;

use super::mix::MixMap;

/// The longest run of characters that's looked at as a whole.
const LONGEST: usize = 64;

/// Words as numbers of characters, one after the other, with a gap after each.
pub(super) struct Text {
    pub(super) symbols: Vec<u32>,
    /// Where the words lie, and how often they occur.
    pub(super) words: Vec<(Range<usize>, u64)>,
}

/// Stands between words, and where no frequent substring begins.
const GAP: u32 = u32::MAX;

impl Text {
    /// Words are cut at characters outside the alphabet, and where they're too long.
    pub(super) fn new(words: &[(String, u64)], alphabet: &BTreeMap<char, u32>) -> Self {
        let mut text = Self { symbols: Vec::new(), words: Vec::new() };
        for (word, count) in words {
            let symbols: Vec<u32> =
                word.chars().map(|character| alphabet.get(&character).copied().unwrap_or(GAP)).collect();
            for run in symbols.split(|&symbol| symbol == GAP).flat_map(|run| run.chunks(LONGEST)) {
                let start = text.symbols.len();
                text.symbols.extend(run);
                text.words.push((start..text.symbols.len(), *count));
                text.symbols.push(GAP);
            }
        }
        text
    }

    pub(super) fn symbols(&self, range: &Range<usize>) -> &[u32] {
        self.symbols.get(range.clone()).unwrap_or_default()
    }
}

/// A substring of two symbols or more.
pub(super) struct Seed {
    /// One of its places.
    pub(super) place: Range<usize>,
    pub(super) count: u64,
}

impl Seed {
    /// How many symbols the text would be shorter by, about.
    fn value(&self) -> u64 {
        self.count * self.place.len() as u64
    }
}

/// The `most` most valuable substrings of up to `longest` symbols that occur at least twice, but not those that only
/// occur within one longer substring.
///
/// Substrings of length n + 1 are looked for only where two frequent ones of length n overlap, so that the tables stay
/// as small as the answer.
pub(super) fn frequent(text: &Text, longest: usize, most: usize) -> Vec<Seed> {
    // For each place, the number of the frequent substring of the present length that begins there.
    let mut numbers = text.symbols.clone();
    let mut seeds: Vec<Seed> = Vec::new();
    let mut shorter: Vec<Seed> = Vec::new();
    for length in 2..=longest.min(LONGEST) {
        let mut counts: MixMap<(u32, u32), (u64, u32)> = MixMap::default();
        let each = |numbers: &[u32], visit: &mut dyn FnMut(usize, Option<(u32, u32)>, u64)| {
            for (word, count) in &text.words {
                for place in word.clone() {
                    let pair =
                        (numbers.get(place).copied().unwrap_or(GAP), numbers.get(place + 1).copied().unwrap_or(GAP));
                    visit(place, (pair.0 != GAP && pair.1 != GAP).then_some(pair), *count);
                }
            }
        };
        each(&numbers, &mut |_, pair, count| {
            if let Some(pair) = pair {
                counts.entry(pair).or_insert((0, GAP)).0 += count;
            }
        });
        let mut found: Vec<Seed> = Vec::new();
        let mut next = vec![GAP; numbers.len()];
        each(&numbers, &mut |place, pair, _| {
            let Some(pair) = pair else { return };
            let Some((count, number)) = counts.get_mut(&pair).filter(|(count, _)| *count > 1) else { return };
            if *number == GAP {
                *number = found.len() as u32;
                found.push(Seed { place: place..place + length, count: *count });
                for part in [pair.0, pair.1] {
                    if let Some(part) = shorter.get_mut(part as usize).filter(|part| part.count == *count) {
                        part.count = 0;
                    }
                }
            }
            if let Some(next) = next.get_mut(place) {
                *next = *number;
            }
        });
        seeds.extend(shorter.drain(..).filter(|seed| seed.count > 0));
        if found.is_empty() {
            break;
        }
        (numbers, shorter) = (next, found);
    }
    seeds.extend(shorter);
    seeds.sort_by_key(|seed| (std::cmp::Reverse(seed.value()), seed.place.start, seed.place.end));
    seeds.truncate(most);
    seeds
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_repeated_substrings_that_are_not_part_of_one_longer() {
        let alphabet = "abcdxyz".chars().zip(0..).collect();
        let words = [("xabcy".to_owned(), 1), ("zabcabd".to_owned(), 2)];
        let text = Text::new(&words, &alphabet);
        let found = frequent(&text, 16, 100);
        let spell =
            |seed: &Seed| text.symbols(&seed.place).iter().map(|&s| b"abcdxyz"[s as usize] as char).collect::<String>();
        let mut found: Vec<_> = found.iter().map(|seed| (spell(seed), seed.count)).collect();
        found.sort();
        assert_eq!(found, [("ab".into(), 5), ("abc".into(), 3), ("zabcabd".into(), 2)]);
    }

    #[test]
    fn no_substring_is_longer_than_asked_for() {
        let alphabet = [('a', 0)].into();
        let text = Text::new(&[("a".repeat(200), 3)], &alphabet);
        assert!(frequent(&text, 5, 100).iter().all(|seed| seed.place.len() <= 5));
    }
}
