//! What is between attention's matrix products: softmax over the visible keys, and dropout.

use std::{fmt::Debug, ops::Range};

use burn::tensor::{Bool, DType, Int, IntDType, Tensor, activation};

use super::dropout::{multipliers, whole};
use crate::network::kernels::{AttentionSpans, Dropout, attention_spans::HIDDEN, blocked::Softmax};

/// Softmax of tensor operations, in f32.
#[derive(Debug)]
pub(super) struct ByOperations {
    spans: AttentionSpans,
    /// Keys before those that `spans` counts; every query that sees any sees them.
    shared: usize,
    dropout: Option<Drops>,
}

/// Dropout of probabilities.
#[derive(Debug)]
struct Drops {
    dropout: Dropout,
    /// Where each query's random numbers begin, `[rows, heads, queries, 1]`.
    streams: Tensor<4, Int>,
}

impl ByOperations {
    pub(super) fn new(spans: &AttentionSpans, shared: usize, heads: usize, dropout: Option<&Dropout>) -> Self {
        let (rows, queries) = (spans.rows, spans.width);
        let drops = |dropout: &Dropout| {
            let token = |at: usize| (at / queries / heads * queries + at % queries, at / queries % heads);
            let streams =
                (0..rows * heads * queries).map(token).map(|(token, head)| dropout.stream(token, head as u32));
            let streams = whole(streams.collect(), [rows, heads, queries, 1], &spans.from.device().inner());
            Drops { dropout: dropout.clone(), streams }
        };
        Self { spans: spans.clone(), shared, dropout: dropout.map(drops) }
    }

    /// Probabilities in f32, and what they're multiplied by.
    fn both(&self, scores: Tensor<4>, queries: Range<usize>, keys: Range<usize>) -> (Tensor<4>, Option<Tensor<4>>) {
        let scores = scores.cast(DType::F32);
        let hidden = self.hidden(&queries).narrow(3, keys.start, keys.len()).expand(scores.dims());
        let scores = scores.mask_fill(hidden.clone(), HIDDEN);
        // The second time for queries that see nothing.
        let all = activation::softmax(scores, 3).mask_fill(hidden, 0.0);
        (all, self.dropout.as_ref().map(|drops| self.multipliers(drops, queries, keys)))
    }

    /// `[rows, 1, queries, keys]`: true where the query doesn't see the key.
    fn hidden(&self, queries: &Range<usize>) -> Tensor<4, Bool> {
        let hidden = self.spans.hidden(queries.clone());
        if self.shared == 0 {
            return hidden;
        }
        let blind = self.spans.blind(queries.clone());
        Tensor::cat(vec![blind.expand([self.spans.rows, 1, queries.len(), self.shared]), hidden], 3)
    }

    /// What a block's probabilities are multiplied by.
    ///
    /// A mask's element is counted from the first key that the query sees, the shared ones included. What hidden keys are
    /// multiplied by doesn't matter.
    fn multipliers(&self, drops: &Drops, queries: Range<usize>, seen: Range<usize>) -> Tensor<4> {
        let AttentionSpans { rows, keys, from, .. } = &self.spans;
        let (rows, keys, shared) = (*rows, *keys, self.shared as u32);
        let device = from.device().inner();
        let key = whole((0..(rows * keys) as u32).collect(), [rows, 1, 1, keys], &device).add_scalar(shared);
        let from = from.clone().cast(IntDType::U32).reshape([rows, 1, self.spans.width, 1]);
        let mut index: Tensor<4, Int> = key - from.narrow(2, queries.start, queries.len());
        if shared > 0 {
            let first = whole((0..shared).collect(), [1, 1, 1, self.shared], &device);
            index = Tensor::cat(vec![first.expand([rows, 1, queries.len(), self.shared]), index], 3);
        }
        let streams = drops.streams.clone().narrow(2, queries.start, queries.len());
        multipliers(&drops.dropout, streams, index.narrow(3, seen.start, seen.len()))
    }
}

/// Probabilities, dropped if they are.
fn dropped(all: &Tensor<4>, kept: Option<&Tensor<4>>) -> Tensor<4> {
    match kept {
        Some(kept) => all.clone() * kept.clone(),
        None => all.clone(),
    }
}

impl Softmax for ByOperations {
    fn probabilities(&self, scores: Tensor<4>, queries: Range<usize>, keys: Range<usize>) -> Tensor<4> {
        let dtype = scores.dtype();
        let (all, kept) = self.both(scores, queries, keys);
        dropped(&all, kept.as_ref()).cast(dtype)
    }

    fn grads(&self, scores: Tensor<4>, grads: Tensor<4>, queries: Range<usize>, keys: Range<usize>) -> [Tensor<4>; 2] {
        let dtype = scores.dtype();
        let (all, kept) = self.both(scores, queries, keys);
        let dropped = dropped(&all, kept.as_ref()).cast(dtype);
        let mut grads = grads.cast(DType::F32);
        if let Some(kept) = kept {
            grads = grads * kept;
        }
        let grads = all.clone() * grads;
        let grads = grads.clone() - all * grads.sum_dim(3);
        [dropped, grads.cast(dtype)]
    }
}
