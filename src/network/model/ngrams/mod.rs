//! The identity of n-grams: rows of a hashed table for the pairs and triples of tokens that end at each token, added to
//! its embedding (fastText's hashed n-grams, Joulin et al. 2017, <https://arxiv.org/abs/1607.01759>; before a transformer
//! in Roy et al. 2022, <https://arxiv.org/abs/2207.06366>).
//!
//! A model has them beside what its family is made of: under `ngrams` in the key `pipe` of `config.json`, and as the tensors
//! `ngrams.table` and `ngrams.projection`, which other programs ignore.

mod build;
mod hashing;
mod lookup;
mod settings;

pub use settings::NgramSettings;

use super::ids::MatrixId;

/// How the names of its parameters begin.
pub(super) const PREFIX: &str = "ngrams.";

/// The embeddings of a model's n-grams.
#[derive(Clone, Debug)]
pub(super) struct Ngrams {
    pub(super) settings: NgramSettings,
    /// `[buckets, width]`; n-grams that no training has seen have zeros.
    table: MatrixId,
    /// From a row to the stream, `[hidden, width]`.
    projection: MatrixId,
}
