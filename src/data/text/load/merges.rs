//! From a vocabulary in which each piece has a rank to byte-pair encoding's list of merges.
//!
//! SentencePiece and tiktoken have no such list: of all neighbours that together are a piece, those of the best piece
//! are joined first. So every way to put a piece together from two others is a merge, with the rank of the whole.

use std::collections::HashMap;

use tokenizers::models::bpe::Merges;

/// The merges of these pieces, the best piece first; ways to put together the same piece go by the ranks of their parts.
pub(super) fn merges(pieces: &[&str]) -> Merges {
    let ranks: HashMap<&str, usize> = pieces.iter().enumerate().map(|(rank, piece)| (*piece, rank)).collect();
    let mut merges = Vec::new();
    for piece in pieces {
        let splits = piece.char_indices().skip(1).filter_map(|(at, _)| {
            let (left, right) = piece.split_at(at);
            Some((ranks.get(left)?, ranks.get(right)?, left, right))
        });
        let mut splits: Vec<_> = splits.collect();
        splits.sort_unstable();
        merges.extend(splits.into_iter().map(|(_, _, left, right)| (left.to_owned(), right.to_owned())));
    }
    merges
}

#[cfg(test)]
mod tests {
    use super::merges;

    #[test]
    fn every_way_to_put_a_piece_together_is_a_merge() {
        let expected = [("a", "b"), ("b", "a"), ("a", "ba"), ("ab", "a")].map(|(a, b)| (a.into(), b.into()));
        assert_eq!(merges(&["a", "b", "ab", "ba", "aba", "zz"]), expected);
    }
}
