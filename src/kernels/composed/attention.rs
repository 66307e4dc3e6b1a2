//! Attention with a matrix of scores.

use burn::tensor::{DType, Int, IntDType, Tensor, activation};

use super::{product, whole};
use crate::kernels::{Dropout, KeyValue, Visible};

/// Stands for a hidden key's score: far below any real one, and finite so that rows without keys don't become NaN.
const HIDDEN: f32 = -1e30;

/// See [`crate::kernels::attention`].
pub fn attention(qkv: Tensor<2>, visible: &Visible, heads: usize, dropout: Option<&Dropout>) -> Tensor<2> {
    let hidden = qkv.dims()[1] / 3;
    let part = |i: usize| qkv.clone().narrow(1, i * hidden, hidden);
    grouped_attention(part(0), KeyValue { key: part(1), value: part(2) }, None, visible, heads, heads, dropout)
}

/// See [`crate::kernels::grouped_attention`].
pub fn grouped_attention(
    query: Tensor<2>,
    keys: KeyValue,
    prefix: Option<KeyValue>,
    visible: &Visible,
    heads: usize,
    groups: usize,
    dropout: Option<&Dropout>,
) -> Tensor<2> {
    let (rows, queries) = (visible.rows, visible.width);
    let numbers = query.dtype();
    let size = query.dims()[1] / heads;
    let together = heads / groups;
    // A group's heads are further queries of its keys: [rows, groups, together * queries, size].
    let query = query.reshape([rows, queries, groups, together, size]).permute([0, 2, 3, 1, 4]);
    let query = query.reshape([rows, groups, together * queries, size]);
    let split = |x: Tensor<2>, rows: usize, keys: usize| x.reshape([rows, keys, groups, size]).swap_dims(1, 2);
    let (mut key, mut value) = (split(keys.key, rows, visible.keys), split(keys.value, rows, visible.keys));
    let mut hidden = visible.hidden();
    let mut shared = 0;
    if let Some(prefix) = prefix {
        shared = prefix.key.dims()[0];
        let first =
            |x: Tensor<2>, rest| Tensor::cat(vec![split(x, 1, shared).expand([rows, groups, shared, size]), rest], 2);
        (key, value) = (first(prefix.key, key), first(prefix.value, value));
        hidden = Tensor::cat(vec![visible.blind().expand([rows, 1, queries, shared]), hidden], 3);
    }
    let keys = shared + visible.keys;
    let hidden = hidden.expand([rows, heads, queries, keys]);

    let scores = product(query.mul_scalar((size as f32).powf(-0.5)), key.swap_dims(2, 3));
    let scores = scores.reshape([rows, heads, queries, keys]).cast(DType::F32).mask_fill(hidden.clone(), HIDDEN);
    let mut probabilities = activation::softmax(scores, 3).mask_fill(hidden, 0.0);
    if let Some(dropout) = dropout {
        probabilities = probabilities * multipliers(visible, shared, heads, dropout);
    }
    let probabilities = probabilities.cast(numbers);
    let context = product(probabilities.reshape([rows, groups, together * queries, keys]), value);
    let context = context.reshape([rows, groups, together, queries, size]).permute([0, 3, 1, 2, 4]);
    context.reshape([rows * queries, heads * size])
}

/// What probabilities are multiplied by: `[rows, heads, query, shared + key]`.
///
/// A mask's element is counted from the first key that the query sees, the shared ones included. What hidden keys are
/// multiplied by doesn't matter.
fn multipliers(visible: &Visible, shared: usize, heads: usize, dropout: &Dropout) -> Tensor<4> {
    let (rows, queries, keys) = (visible.rows, visible.width, visible.keys);
    let device = visible.from.device().inner();
    let token = |at: usize| (at / queries / heads * queries + at % queries, at / queries % heads);
    let streams = (0..rows * heads * queries).map(token).map(|(token, head)| dropout.stream(token, head as u32));
    let streams = whole(streams.collect(), [rows, heads, queries, 1], &device);

    let key = whole((0..(rows * keys) as u32).collect(), [rows, 1, 1, keys], &device).add_scalar(shared as u32);
    let from = visible.from.clone().cast(IntDType::U32).reshape([rows, 1, queries, 1]);
    let mut index: Tensor<4, Int> = key - from;
    if shared > 0 {
        let first = whole((0..shared as u32).collect(), [1, 1, 1, shared], &device);
        index = Tensor::cat(vec![first.expand([rows, 1, queries, shared]), index], 3);
    }
    super::multipliers(dropout, streams, index)
}
