//! The unigram language model over pieces: Kudo 2018 (<https://arxiv.org/abs/1804.10959>).
//!
//! From many substrings as candidates, expectation maximization finds each piece's probability; then those whose loss
//! would cost the likelihood least are left out, and so on until the vocabulary has its size.
//!
//! Probabilities are kept as they are rather than as logarithms: a factor of [`SCALE`] for each character, the same on
//! every path through a word, keeps the products in range. Plain products and sums in a fixed order are the same on
//! every machine.

use std::collections::BTreeMap;

use anyhow::{Error, Result};
use rayon::prelude::*;
use tokenizers::models::unigram::Unigram;

use super::mix::MixMap;
use super::seeds::{Text, frequent};
use super::words::{characters, most_frequent};
use super::{ALPHABET_SHARE, assemble, words};
use crate::data::text::special;
use crate::spec;
use crate::support::math;

/// Share of the text that the alphabet covers; what's rarer is spelt in bytes, or unknown.
const COVERAGE: f64 = 0.9995;
/// The least vocabulary in which the 256 bytes have their place.
const ROOM_FOR_BYTES: usize = 1024;
/// About one over the probability of a character; a power of two, so that it doesn't round.
const SCALE: f64 = 256.0;
/// Of a piece's expected count this much is taken off: about what a Dirichlet prior does that prefers few pieces.
const DISCOUNT: f64 = 0.5;
/// The least count of a piece.
const FLOOR: f64 = 0.01;
/// Share of the pieces that survive one round.
const SURVIVORS: f64 = 0.75;
/// In how many parts the text is worked on; fixed, so that sums don't depend on the number of threads.
const PARTS: usize = 16;

pub(super) fn train(spec: &spec::Unigram, texts: &[String]) -> Result<tokenizers::Tokenizer> {
    let words = words::count(&assemble::unigram(Unigram::default(), spec.lowercase)?, texts)?;
    let bytes = spec.vocab_size >= ROOM_FOR_BYTES;
    let mut vocabulary: Vec<(String, f64)> = special::NAMES.iter().map(|name| ((*name).to_owned(), 0.0)).collect();
    if bytes {
        vocabulary.extend((0..=u8::MAX).map(|byte| (format!("<0x{byte:02X}>"), 0.0)));
    }
    let room = spec.vocab_size.saturating_sub(vocabulary.len());
    let alphabet = alphabet(&words, (room as f64 * ALPHABET_SHARE) as usize);
    let numbers: BTreeMap<char, u32> = alphabet.iter().copied().zip(0..).collect();
    let pieces = pieces(&Text::new(&words, &numbers), alphabet.len(), room, spec.max_piece_length);

    let spell = |piece: &[u32]| piece.iter().filter_map(|&symbol| alphabet.get(symbol as usize)).collect::<String>();
    let mut pieces: Vec<(String, f64)> =
        pieces.iter().map(|piece| (spell(&piece.symbols), score(piece.weight))).collect();
    pieces.sort_by(|a, b| b.1.total_cmp(&a.1).then_with(|| a.0.cmp(&b.0)));
    vocabulary.extend(pieces);
    let model = Unigram::from(vocabulary, Some(1), bytes).map_err(Error::from_boxed)?;
    assemble::unigram(model, spec.lowercase)
}

/// The most frequent characters, up to [`COVERAGE`] of the text.
fn alphabet(words: &[(String, u64)], most: usize) -> Vec<char> {
    let counts = characters(words);
    let all: u64 = counts.values().sum();
    let mut covered = 0;
    let enough = |&(_, count): &(char, u64)| {
        let before = covered as f64;
        covered += count;
        before < COVERAGE * all as f64
    };
    most_frequent(counts, most).into_iter().take_while(enough).map(|(character, _)| character).collect()
}

/// A natural logarithm, rounded so that it doesn't show how the machine computes it.
fn score(weight: f64) -> f64 {
    (math::ln(weight) * 1e4).round() / 1e4
}

/// A candidate for the vocabulary.
struct Piece {
    symbols: Vec<u32>,
    /// Its probability.
    weight: f64,
}

/// Up to `room` pieces; the first are the single symbols, each at its own index.
fn pieces(text: &Text, alphabet: usize, room: usize, longest: usize) -> Vec<Piece> {
    let mut pieces: Vec<Piece> =
        (0..alphabet as u32).map(|symbol| Piece { symbols: vec![symbol], weight: 0.0 }).collect();
    for (word, count) in &text.words {
        for &symbol in text.symbols(word) {
            if let Some(piece) = pieces.get_mut(symbol as usize) {
                piece.weight += *count as f64;
            }
        }
    }
    let seeds = frequent(text, longest, (room * 10).clamp(50_000, 400_000));
    pieces.extend(
        seeds.iter().map(|seed| Piece { symbols: text.symbols(&seed.place).to_vec(), weight: seed.count as f64 }),
    );
    let total: f64 = pieces.iter().map(|piece| piece.weight).sum();
    pieces.iter_mut().for_each(|piece| piece.weight /= total);
    loop {
        for _ in 0..2 {
            maximize(&mut pieces, text);
        }
        if pieces.len() <= room {
            return pieces;
        }
        let survivors = ((pieces.len() as f64 * SURVIVORS) as usize).max(room);
        prune(&mut pieces, text, alphabet, survivors);
    }
}

/// Sets the pieces' probabilities to their discounted expected counts.
fn maximize(pieces: &mut [Piece], text: &Text) {
    let lattices = Lattices::new(pieces);
    let expected = in_parts(text, pieces.len(), |lattice, counts, symbols, count| {
        lattice.expect(&lattices, symbols, count as f64, counts);
    });
    let discounted: Vec<f64> = expected.iter().map(|count| (count - DISCOUNT).max(FLOOR)).collect();
    let total: f64 = discounted.iter().sum();
    for (piece, count) in pieces.iter_mut().zip(discounted) {
        piece.weight = count / total;
    }
}

/// Keeps the single symbols, and of the others those that the likelihood of the text would miss most.
fn prune(pieces: &mut Vec<Piece>, text: &Text, alphabet: usize, survivors: usize) {
    let lattices = Lattices::new(pieces);
    // Counts are whole numbers, so their sums are exact in any order.
    let used = in_parts(text, pieces.len(), |lattice, counts, symbols, count| {
        for index in lattice.best_path(&lattices, symbols, None) {
            if let Some(used) = counts.get_mut(index as usize) {
                *used += count as f64;
            }
        }
    });
    let total: f64 = used.iter().sum();
    let loss = |index: usize, piece: &Piece| {
        let count = used.get(index).copied().unwrap_or_default();
        let mut lattice = Lattice::default();
        if count == 0.0 || lattice.best_path(&lattices, &piece.symbols, None) != [index as u32] {
            return 0.0;
        }
        // Without the piece, those on the next best path take over its count.
        let others = lattice.best_path(&lattices, &piece.symbols, Some(index as u32));
        let new_total = total + count * (others.len() as f64 - 1.0);
        let others = others.iter().map(|&other| used.get(other as usize).copied().unwrap_or_default() + count);
        let log_others: f64 = others.map(|count| math::ln(count / new_total)).sum();
        count * (math::ln(count / total) - log_others)
    };
    let mut losses: Vec<(f64, usize)> =
        pieces.par_iter().enumerate().skip(alphabet).map(|(index, piece)| (loss(index, piece), index)).collect();
    losses.sort_by(|a, b| b.0.total_cmp(&a.0).then(a.1.cmp(&b.1)));
    losses.truncate(survivors.saturating_sub(alphabet));
    let mut keep = vec![false; pieces.len()];
    keep.iter_mut().take(alphabet).for_each(|keep| *keep = true);
    for (_, index) in losses {
        if let Some(keep) = keep.get_mut(index) {
            *keep = true;
        }
    }
    let mut keep = keep.into_iter();
    pieces.retain(|_| keep.next().unwrap_or_default());
}

/// Goes through all words and adds up what `visit` adds to the counts, one a piece.
fn in_parts(text: &Text, pieces: usize, visit: impl Fn(&mut Lattice, &mut [f64], &[u32], u64) + Sync) -> Vec<f64> {
    let parts: Vec<Vec<f64>> = text
        .words
        .par_chunks(text.words.len().div_ceil(PARTS).max(1))
        .map(|words| {
            let (mut lattice, mut counts) = (Lattice::default(), vec![0.0; pieces]);
            for (word, count) in words {
                visit(&mut lattice, &mut counts, text.symbols(word), *count);
            }
            counts
        })
        .collect();
    let mut sums = vec![0.0; pieces];
    for part in parts {
        sums.iter_mut().zip(part).for_each(|(sum, count)| *sum += count);
    }
    sums
}

/// The pieces as a trie, each with its scaled probability.
struct Lattices {
    children: MixMap<(u32, u32), u32>,
    /// The piece that ends at each node.
    pieces: Vec<Option<(u32, f64)>>,
}

impl Lattices {
    fn new(pieces: &[Piece]) -> Self {
        let mut trie = Self { children: MixMap::default(), pieces: vec![None] };
        for (piece, index) in pieces.iter().zip(0..) {
            let mut node = 0;
            for &symbol in &piece.symbols {
                let fresh = trie.pieces.len() as u32;
                node = *trie.children.entry((node, symbol)).or_insert(fresh);
                if node == fresh {
                    trie.pieces.push(None);
                }
            }
            if let Some(end) = trie.pieces.get_mut(node as usize) {
                *end = Some((index, piece.weight * SCALE.powi(piece.symbols.len() as i32)));
            }
        }
        trie
    }

    /// The pieces that the symbols begin with: their lengths, indices and weights.
    fn starting<'a>(&'a self, symbols: &'a [u32]) -> impl Iterator<Item = (usize, u32, f64)> + 'a {
        let nodes = symbols.iter().scan(0, |node, &symbol| {
            *node = *self.children.get(&(*node, symbol))?;
            Some(*node)
        });
        let pieces =
            nodes.zip(1..).filter_map(|(node, length)| Some((length, self.pieces.get(node as usize).copied()??)));
        pieces.map(|(length, (index, weight))| (length, index, weight))
    }
}

/// Room for the work on one word: all ways to cut it into pieces.
#[derive(Default)]
struct Lattice {
    /// Start, end, piece and weight, by start.
    edges: Vec<(usize, usize, u32, f64)>,
    forward: Vec<f64>,
    backward: Vec<f64>,
    last: Vec<(usize, u32)>,
}

impl Lattice {
    /// Adds each piece's expected count in a word that occurs `count` times: forward-backward.
    fn expect(&mut self, lattices: &Lattices, symbols: &[u32], count: f64, counts: &mut [f64]) {
        let length = symbols.len();
        self.edges.clear();
        self.forward.clear();
        self.forward.resize(length + 1, 0.0);
        self.backward.clear();
        self.backward.resize(length + 1, 0.0);
        self.forward[0] = 1.0;
        self.backward[length] = 1.0;
        for start in 0..length {
            let before = self.forward[start];
            for (piece_length, index, weight) in lattices.starting(&symbols[start..]) {
                self.forward[start + piece_length] += before * weight;
                self.edges.push((start, start + piece_length, index, weight));
            }
        }
        let share = count / self.forward[length];
        for &(start, end, index, weight) in self.edges.iter().rev() {
            let after = weight * self.backward[end];
            self.backward[start] += after;
            if let Some(expected) = counts.get_mut(index as usize) {
                *expected += share * self.forward[start] * after;
            }
        }
    }

    /// The pieces of the likeliest cut, without the piece `but`: Viterbi.
    fn best_path(&mut self, lattices: &Lattices, symbols: &[u32], but: Option<u32>) -> Vec<u32> {
        let length = symbols.len();
        self.forward.clear();
        self.forward.resize(length + 1, 0.0);
        self.last.clear();
        self.last.resize(length + 1, (0, 0));
        self.forward[0] = 1.0;
        for start in 0..length {
            let before = self.forward[start];
            for (piece_length, index, weight) in lattices.starting(&symbols[start..]) {
                let end = start + piece_length;
                if before * weight > self.forward[end] && Some(index) != but {
                    self.forward[end] = before * weight;
                    self.last[end] = (start, index);
                }
            }
        }
        let mut path = Vec::new();
        let mut end = length;
        while end > 0 {
            let (start, index) = self.last[end];
            path.push(index);
            end = start;
        }
        path.reverse();
        path
    }
}
