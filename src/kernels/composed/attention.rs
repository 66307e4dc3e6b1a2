//! Attention with a matrix of scores.

use burn::tensor::{Tensor, TensorData, activation};

use super::product;
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
    let device = query.device();
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
    let scores = scores.reshape([rows, heads, queries, keys]).mask_fill(hidden.clone(), HIDDEN);
    let mut probabilities = activation::softmax(scores, 3).mask_fill(hidden, 0.0);
    if let Some(dropout) = dropout {
        let kept = multipliers(visible, shared, heads, dropout);
        let kept = Tensor::<1>::from_data(TensorData::new(kept, [rows * heads * queries * keys]), &device);
        probabilities = probabilities * kept.reshape([rows, heads, queries, keys]);
    }
    let context = product(probabilities.reshape([rows, groups, together * queries, keys]), value);
    let context = context.reshape([rows, groups, together, queries, size]).permute([0, 3, 1, 2, 4]);
    context.reshape([rows * queries, heads * size])
}

/// What probabilities are multiplied by: `[rows, heads, query, shared + key]`.
///
/// A mask's element is counted from the first key that the query sees, the shared ones included.
fn multipliers(visible: &Visible, shared: usize, heads: usize, dropout: &Dropout) -> Vec<f32> {
    let (queries, keys) = (visible.width, shared + visible.keys);
    let host = visible.host();
    let mut kept = vec![0.0; visible.rows * heads * queries * keys];
    let mut mask = vec![0.0; keys];
    for (i, line) in kept.chunks_exact_mut(keys.max(1)).enumerate() {
        let (row, head, query) = (i / queries / heads, i / queries % heads, i % queries);
        let token = row * queries + query;
        let (from, to) = (host.from[token] as usize, host.to[token] as usize);
        if from < to {
            let first = shared + from - row * visible.keys;
            let mask = &mut mask[..shared + to - from];
            dropout.fill(token, head as u32, mask);
            line[..shared].copy_from_slice(&mask[..shared]);
            line[first..][..to - from].copy_from_slice(&mask[shared..]);
        }
    }
    kept
}
