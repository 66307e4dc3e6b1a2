//! Rows that are nearly those that a model has learned: a title with another word, a review with a line more.
//!
//! Two texts are near if their sets of shingles, runs of three characters without white space and case, have a Jaccard
//! similarity of 0.7 or more: in a title of 19 characters, one may be another. Candidates are found by MinHash (Broder 1997,
//! <https://doi.org/10.1109/SEQUEN.1997.666900>) with 16 bands of 4 hashes, which has 99 % of the pairs at that similarity and
//! more of nearer ones; each is then compared exactly.

use std::collections::HashMap;

use rayon::prelude::*;

use crate::support::random::Key;

/// Characters of a shingle.
const SHINGLE: usize = 3;
/// The least similarity.
const SIMILARITY: f64 = 0.7;
const BANDS: usize = 16;
/// Hashes of a band.
const HASHES: usize = 4;

/// For each text, whether one of the learned ones is near it.
pub fn near_duplicates(texts: &[&str], learned: &[&str]) -> Vec<bool> {
    let shingled: Vec<Vec<u64>> = texts.par_iter().map(|text| shingles(text)).collect();
    let bands: Vec<[u64; BANDS]> = shingled.par_iter().map(|shingles| bands(shingles)).collect();
    // Of the texts in question there are fewer, so they're what is looked up.
    let mut tables: Vec<HashMap<u64, Vec<usize>>> = vec![HashMap::new(); BANDS];
    for (row, bands) in bands.iter().enumerate() {
        for (table, band) in tables.iter_mut().zip(bands) {
            table.entry(*band).or_default().push(row);
        }
    }
    let near_to = |text: &&str| {
        let own = shingles(text);
        let found = bands_of(&own, &tables);
        found.into_iter().filter(|row| are_near(&shingled[*row], &own)).collect::<Vec<usize>>()
    };
    let found: Vec<Vec<usize>> = learned.par_iter().map(near_to).collect();
    let mut near = vec![false; texts.len()];
    found.into_iter().flatten().for_each(|row| near[row] = true);
    near
}

/// The rows that share a band, each once.
fn bands_of(shingles: &[u64], tables: &[HashMap<u64, Vec<usize>>]) -> Vec<usize> {
    let own = bands(shingles);
    let mut rows: Vec<usize> =
        tables.iter().zip(own).filter_map(|(table, band)| table.get(&band)).flatten().copied().collect();
    rows.sort_unstable();
    rows.dedup();
    rows
}

/// Hashes of a text's shingles, ascending; of a text that is shorter than one, the text's.
fn shingles(text: &str) -> Vec<u64> {
    let characters = text.chars().filter(|character| !character.is_whitespace()).flat_map(char::to_lowercase);
    let characters: Vec<u64> = characters.map(|character| u64::from(u32::from(character))).collect();
    let hash = |run: &[u64]| run.iter().fold(Key::new(0), |key, character| key.at(*character)).u64();
    let mut hashes: Vec<u64> = match characters.len() {
        0 => Vec::new(),
        length => characters.windows(SHINGLE.min(length)).map(hash).collect(),
    };
    hashes.sort_unstable();
    hashes.dedup();
    hashes
}

/// What texts of similar shingles have in common: of each band the lowest values of four permutations, hashed.
fn bands(shingles: &[u64]) -> [u64; BANDS] {
    std::array::from_fn(|band| {
        let lowest = |hash: usize| {
            let seed = Key::new(1).at((band * HASHES + hash) as u64);
            // An odd factor and a summand: a permutation of all numbers of 64 bits.
            let (factor, summand) = (seed.u64() | 1, seed.at(0).u64());
            shingles.iter().map(|shingle| shingle.wrapping_mul(factor).wrapping_add(summand)).min().unwrap_or(0)
        };
        (0..HASHES).fold(Key::new(2), |key, hash| key.at(lowest(hash))).u64()
    })
}

/// Whether two ascending sets are similar enough; empty ones are near to none.
fn are_near(a: &[u64], b: &[u64]) -> bool {
    let shared = a.iter().filter(|shingle| b.binary_search(shingle).is_ok()).count();
    let all = a.len() + b.len() - shared;
    all > 0 && shared as f64 >= SIMILARITY * all as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_title_with_another_character_is_near() {
        let title = "北京明年将建成三条新的地铁线路并通车运营";
        let near = |text: &str| near_duplicates(&[text], &[title])[0];
        // 18 shingles: three are others, so 15 of 21 are shared.
        assert!(near("北京明年将建成五条新的地铁线路并通车运营"));
        assert!(near("北京明年将建成三条新的地铁线路并通车运营！") && near(title));
        assert!(near("北京 明年将建成三条新的\n地铁线路并通车运营"));
        // Of two in different places six are others: 12 of 24.
        assert!(!near("北京明年将建成五条新的地铁线路并开车运营"));
        assert!(!near("") && !near("北京"));
    }

    #[test]
    fn short_texts_are_near_to_themselves_and_empty_ones_to_nothing() {
        assert_eq!(near_duplicates(&["好", "OK", "差", ""], &["好", "ok", ""]), [true, true, false, false]);
    }

    /// What MinHash finds is what comparing all pairs finds, but for the 1 % that it may miss.
    #[test]
    fn candidates_are_nearly_all_pairs() {
        let mut stream = Key::new(5).stream();
        let mut text = |length: usize| -> Vec<char> {
            (0..length).filter_map(|_| char::from_u32(0x4E00 + stream.below(2000) as u32)).collect()
        };
        let learned: Vec<Vec<char>> = (0..200).map(|_| text(60)).collect();
        let mut changed = learned.clone();
        for (index, text) in changed.iter_mut().enumerate() {
            // From none to seven characters, which is a similarity of 1 to 0.47.
            (0..index % 8).for_each(|change| text[5 + change * 7] = '啊');
        }
        let strings = |texts: &[Vec<char>]| texts.iter().map(|text| text.iter().collect()).collect::<Vec<String>>();
        let (learned, changed) = (strings(&learned), strings(&changed));
        let learned: Vec<&str> = learned.iter().map(String::as_str).collect();
        let changed: Vec<&str> = changed.iter().map(String::as_str).collect();
        let exact = |text: &&str| learned.iter().any(|other| are_near(&shingles(text), &shingles(other)));
        let expected: Vec<bool> = changed.iter().map(exact).collect();
        let found = near_duplicates(&changed, &learned);
        assert!(found.iter().zip(&expected).all(|(found, expected)| !found || *expected));
        let missed = found.iter().zip(&expected).filter(|(found, expected)| found != expected).count();
        assert!(missed <= 2 && expected.iter().filter(|near| **near).count() > 80, "{missed} missed");
    }
}
