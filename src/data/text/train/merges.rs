//! Byte-pair merging: the most frequent pair of neighbours becomes one token, again and again.
//!
//! The algorithm of Sennrich et al. 2016 (<https://aclanthology.org/P16-1162>). Of equally frequent pairs the one with
//! the lower ids goes first.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap};

use super::mix::MixMap;

/// A word as tokens, with how often it occurs.
pub(super) struct Word {
    pub(super) tokens: Vec<u32>,
    pub(super) count: u64,
}

/// What was learnt: all tokens in the order of their ids, and the merges, the earliest first.
pub(super) struct Learnt {
    pub(super) tokens: Vec<String>,
    pub(super) merges: Vec<(String, String)>,
}

type Pair = (u32, u32);

/// Merges until there are `size` tokens or no pair is as frequent as `min_frequency`. A token that begins with `prefix`
/// continues a word, and loses the prefix where it's joined to the token before it.
pub(super) fn learn(tokens: Vec<String>, words: Vec<Word>, prefix: &str, size: usize, min_frequency: u64) -> Learnt {
    let min_frequency = min_frequency.max(1);
    let mut ids: HashMap<String, u32> = tokens.iter().cloned().zip(0..).collect();
    let mut learnt = Learnt { tokens, merges: Vec::new() };
    let mut pairs = Pairs::count(words);
    let mut queue: BinaryHeap<(u64, Reverse<Pair>)> = pairs
        .counts
        .iter()
        .filter(|(_, count)| **count >= min_frequency)
        .map(|(pair, count)| (*count, Reverse(*pair)))
        .collect();
    while learnt.tokens.len() < size
        && let Some((count, Reverse(pair))) = queue.pop()
    {
        let now = pairs.counts.get(&pair).copied().unwrap_or_default();
        if now != count {
            // The pair became rarer since it was queued.
            if now >= min_frequency {
                queue.push((now, Reverse(pair)));
            }
            continue;
        }
        let (Some(left), Some(right)) = (learnt.tokens.get(pair.0 as usize), learnt.tokens.get(pair.1 as usize)) else {
            continue;
        };
        let token = format!("{left}{}", right.strip_prefix(prefix).unwrap_or(right));
        learnt.merges.push((left.clone(), right.clone()));
        // Two merges may give the same token: ab+c and a+bc.
        let id = *ids.entry(token).or_insert_with_key(|token| {
            learnt.tokens.push(token.clone());
            (learnt.tokens.len() - 1) as u32
        });
        for pair in pairs.merge(pair, id) {
            let count = pairs.counts.get(&pair).copied().unwrap_or_default();
            if count >= min_frequency {
                queue.push((count, Reverse(pair)));
            }
        }
    }
    learnt
}

/// The words, how often each pair of neighbours occurs in them, and where.
struct Pairs {
    words: Vec<Word>,
    counts: MixMap<Pair, u64>,
    /// Indices of words that have or had the pair.
    places: MixMap<Pair, Vec<u32>>,
}

impl Pairs {
    fn count(words: Vec<Word>) -> Self {
        let mut pairs = Self { words: Vec::new(), counts: MixMap::default(), places: MixMap::default() };
        for (word, index) in words.iter().zip(0..) {
            for pair in word.tokens.windows(2).filter_map(|pair| Some((*pair.first()?, *pair.get(1)?))) {
                *pairs.counts.entry(pair).or_default() += word.count;
                note(&mut pairs.places, pair, index);
            }
        }
        pairs.words = words;
        pairs
    }

    /// Puts `id` for the pair everywhere, and returns the pairs that became more frequent.
    fn merge(&mut self, pair: Pair, id: u32) -> Vec<Pair> {
        let mut grown = Vec::new();
        for index in self.places.remove(&pair).unwrap_or_default() {
            let Some(word) = self.words.get_mut(index as usize) else { continue };
            let old = std::mem::take(&mut word.tokens);
            let mut rest = old.iter().copied().peekable();
            // The part before: its last old token, and whether it was merged.
            let mut before: Option<(u32, bool)> = None;
            while let Some(first) = rest.next() {
                let merged = first == pair.0 && rest.next_if_eq(&pair.1).is_some();
                if merged {
                    lower(&mut self.counts, pair, word.count);
                }
                let token = if merged { id } else { first };
                if let (Some((last, was_merged)), Some(&previous)) = (before, word.tokens.last())
                    && (merged || was_merged)
                {
                    lower(&mut self.counts, (last, first), word.count);
                    *self.counts.entry((previous, token)).or_default() += word.count;
                    note(&mut self.places, (previous, token), index);
                    grown.push((previous, token));
                }
                before = Some((if merged { pair.1 } else { first }, merged));
                word.tokens.push(token);
            }
        }
        grown.sort_unstable();
        grown.dedup();
        grown
    }
}

fn note(places: &mut MixMap<Pair, Vec<u32>>, pair: Pair, index: u32) {
    let places = places.entry(pair).or_default();
    if places.last() != Some(&index) {
        places.push(index);
    }
}

fn lower(counts: &mut MixMap<Pair, u64>, pair: Pair, by: u64) {
    if let Some(count) = counts.get_mut(&pair) {
        *count = count.saturating_sub(by);
        if *count == 0 {
            counts.remove(&pair);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn word(text: &str, count: u64) -> Word {
        Word { tokens: text.bytes().map(|byte| u32::from(byte - b'a')).collect(), count }
    }

    fn learn_abc(words: Vec<Word>, size: usize) -> Learnt {
        learn(vec!["a".into(), "b".into(), "c".into()], words, "##", size, 2)
    }

    #[test]
    fn most_frequent_pair_is_merged_first_and_ties_go_by_id() {
        let learnt = learn_abc(vec![word("abc", 5), word("bca", 5), word("ab", 1)], 5);
        assert_eq!(learnt.tokens, ["a", "b", "c", "bc", "abc"]);
        assert_eq!(learnt.merges, [("b".into(), "c".into()), ("a".into(), "bc".into())]);
    }

    #[test]
    fn repeats_are_counted_as_they_are_merged() {
        let mut pairs = Pairs::count(vec![word("aaaaa", 3), word("baab", 1)]);
        assert_eq!(pairs.counts.get(&(0, 0)), Some(&13));
        assert_eq!(pairs.merge((0, 0), 9), [(1, 9), (9, 0), (9, 1), (9, 9)]);
        assert_eq!(pairs.words[0].tokens, [9, 9, 0]);
        assert_eq!(pairs.counts.get(&(0, 0)), None);
        assert_eq!(pairs.counts.get(&(9, 9)), Some(&3));
        assert_eq!(pairs.counts.get(&(1, 9)), Some(&1));
        assert_eq!(pairs.counts.get(&(1, 0)), None);
    }

    #[test]
    fn merging_stops_at_the_least_frequency() {
        assert_eq!(learn_abc(vec![word("ab", 1), word("bc", 2)], 100).tokens, ["a", "b", "c", "bc"]);
    }
}
