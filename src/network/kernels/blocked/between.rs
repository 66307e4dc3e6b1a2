//! What somebody computes between matrix products: softmax over scores, losses of logits, sums.

use std::{fmt::Debug, ops::Range};

use burn::tensor::{Int, Tensor};

use crate::network::kernels::{AttentionSpans, Dropout};

/// What lies between matrix products; nothing of it is differentiated.
pub(in crate::network::kernels) trait Between: Debug + Sync {
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
pub(in crate::network::kernels) trait Softmax: Debug + Send {
    /// Dropped probabilities.
    fn probabilities(&self, scores: Tensor<4>, queries: Range<usize>, keys: Range<usize>) -> Tensor<4>;

    /// The same, and the gradients of the scores from those of the dropped probabilities.
    fn grads(&self, scores: Tensor<4>, grads: Tensor<4>, queries: Range<usize>, keys: Range<usize>) -> [Tensor<4>; 2];
}

/// Some rows' targets and weights on the device, `[count, 1]`.
pub(in crate::network::kernels) struct LossRows {
    /// Classes.
    pub(in crate::network::kernels) targets: Tensor<2, Int>,
    /// What losses are multiplied by.
    pub(in crate::network::kernels) weights: Tensor<2>,
    /// What makes shares of the largest of all weights of them, for gradients.
    pub(in crate::network::kernels) scale: f32,
    /// Whether there are rows to leave out: a weight of 0 stands for one, whatever is in it.
    pub(in crate::network::kernels) gaps: bool,
    /// Share of the target's probability that is spread over all classes.
    pub(in crate::network::kernels) smoothing: f32,
}
