//! Attention, linear layers and the cross-entropy of the output layer, put together of the backend's matrix products and of
//! what somebody computes [`Between`] them: kernels of our own on GPUs, tensor operations elsewhere.
//!
//! Scores and logits exist a block at a time, and the backward pass makes them again.

mod attention;
mod cross_entropy;
mod linear;

pub use attention::SCORES;
pub(super) use attention::{attention, grouped_attention};
pub use cross_entropy::LOGITS;
pub(super) use cross_entropy::{LossRows, linear_cross_entropy};
pub(super) use linear::linear;

use std::{fmt::Debug, ops::Range};

use burn::tensor::Tensor;

use super::{AttentionSpans, Dropout};

/// What lies between matrix products; nothing of it is differentiated.
pub(super) trait Between: Debug + Sync {
    /// Softmax over the keys in each query's span. So many `shared` keys stand before them.
    fn softmax(
        &self,
        spans: &AttentionSpans,
        shared: usize,
        heads: usize,
        dropout: Option<&Dropout>,
    ) -> Box<dyn Softmax>;

    /// Losses of the rows, weighted, `[count, 1]` in f32; and the gradients of the logits `[count, V]`, to which `bias [1, V]`
    /// is added first, for weights times their scale, in whatever type. These may be left out if they aren't `wanted`.
    fn losses(
        &self,
        logits: Tensor<2>,
        bias: Option<&Tensor<2>>,
        rows: LossRows,
        wanted: bool,
    ) -> (Tensor<2>, Option<Tensor<2>>);

    /// Sum of the rows of `x [T, H]`, in f32: `[1, H]`.
    fn row_sums(&self, x: Tensor<2>) -> Tensor<2>;
}

/// Softmax over scores `[rows, heads, queries, keys]` of some queries and keys of each row, in any type. Keys are counted
/// with those that all queries share before those of the row.
pub(super) trait Softmax: Debug + Send {
    /// Dropped probabilities.
    fn probabilities(&self, scores: Tensor<4>, queries: Range<usize>, keys: Range<usize>) -> Tensor<4>;

    /// The same, and the gradients of the scores from those of the dropped probabilities.
    fn grads(&self, scores: Tensor<4>, grads: Tensor<4>, queries: Range<usize>, keys: Range<usize>) -> [Tensor<4>; 2];
}
