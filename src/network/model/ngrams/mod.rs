//! The identity of n-grams: rows of a hashed table for the pairs and triples of tokens that end at each token, added to
//! its embedding (fastText's hashed n-grams, Joulin et al. 2017, <https://arxiv.org/abs/1607.01759>; before a transformer
//! in Roy et al. 2022, <https://arxiv.org/abs/2207.06366>).
//!
//! A model has them beside what its family is made of: under `ngrams` in the key `pipe` of `config.json`, and as the tensors
//! `ngrams.table` and `ngrams.projection`, which other programs ignore.

mod hashing;
mod settings;

use anyhow::Result;
use burn::tensor::{DType, Tensor};

pub use settings::NgramSettings;

use self::hashing::Text;
use super::{
    architecture::Sizes,
    builder::Builder,
    ids::{MatrixId, WeightRole},
    initial::Initial,
    pass::Pass,
};
use crate::network::kernels;

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

impl Ngrams {
    /// Adds the parameters.
    ///
    /// # Errors
    /// Settings of which no table can be made.
    pub(super) fn new(builder: &mut Builder, settings: &NgramSettings, sizes: &Sizes) -> Result<Self> {
        settings.check()?;
        let NgramSettings { buckets, width, .. } = *settings;
        let table = builder.sparse_table(format!("{PREFIX}table"), [buckets, width], Initial::Zeros);
        // Rows are added as if they were as wide as the stream and each of their elements went to a few of its places.
        let projection = Initial::Normal((width as f64).sqrt().recip());
        let projection = builder.in_role(WeightRole::Linear, |builder| {
            builder.matrix(format!("{PREFIX}projection"), [sizes.hidden, width], projection)
        });
        Ok(Self { settings: settings.clone(), table, projection })
    }
}

impl Pass<'_> {
    /// Embeddings of the tokens `x [T, hidden]` with those of the n-grams that end there, where the model has any.
    pub fn with_ngrams(&self, x: Tensor<2>) -> Tensor<2> {
        let Some(ngrams) = &self.parameters.ngrams else { return x };
        let rows = Text::of(self).rows(&ngrams.settings);
        let sums = self.looked_up(ngrams.table, &rows);
        let added = kernels::linear(self.to_operand(sums), self.operand(ngrams.projection), None);
        x + added.cast(DType::F32)
    }
}
