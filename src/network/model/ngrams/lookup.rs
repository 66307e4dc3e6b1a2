//! N-grams in a pass.

use burn::tensor::{DType, Tensor};

use super::hashing::Text;
use crate::network::{kernels, model::pass::Pass};

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
