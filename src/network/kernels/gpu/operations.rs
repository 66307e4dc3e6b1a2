//! A GPU's operations.

use std::sync::Arc;

use burn::tensor::Tensor;

use super::{
    activation, cross_entropy::cross_entropy, dropout_add, embedding, log_softmax, norm, rotary, softmax::SpanSoftmax,
    sums,
};
use crate::network::kernels::{
    AttentionSpans, Dropout, Gelu, KeyValue, PrefixKeys, Rotary, RowIds, Weight,
    blocked::{self, Between, LossRows, Softmax},
    operations::Operations,
    reference,
};

/// Kernels for whatever CubeCL reaches.
#[derive(Debug)]
pub(in crate::network::kernels) struct Gpu;

impl Between for Gpu {
    fn softmax(
        &self,
        spans: &AttentionSpans,
        shared: usize,
        heads: usize,
        dropout: Option<&Dropout>,
    ) -> Box<dyn Softmax> {
        Box::new(SpanSoftmax::new(spans, shared, heads, dropout))
    }

    fn losses(
        &self,
        logits: Tensor<2>,
        bias: Option<&Tensor<2>>,
        rows: LossRows,
        _wanted: bool,
    ) -> (Tensor<2>, Option<Tensor<2>>) {
        let LossRows { targets, weights, scale, smoothing, .. } = rows;
        let [grads, losses] = cross_entropy(logits, bias.cloned(), targets, weights, scale, smoothing);
        (losses, Some(grads))
    }

    fn row_sums(&self, x: Tensor<2>) -> Tensor<2> {
        sums::row_sums(x)
    }
}

impl Operations for Gpu {
    fn attention(&self, qkv: Tensor<2>, spans: &AttentionSpans, heads: usize, dropout: Option<&Dropout>) -> Tensor<2> {
        blocked::attention(self, qkv, spans, heads, dropout, None)
    }

    fn grouped_attention(
        &self,
        query: Tensor<2>,
        keys: KeyValue,
        prefix: Option<PrefixKeys>,
        spans: &AttentionSpans,
        heads: usize,
        kv_heads: usize,
        dropout: Option<&Dropout>,
    ) -> Tensor<2> {
        blocked::grouped_attention(self, query, keys, prefix, spans, heads, kv_heads, dropout)
    }

    fn rotary(&self, x: Tensor<2>, heads: usize, rotary: &Rotary) -> Tensor<2> {
        rotary::rotary(x, heads, rotary)
    }

    fn rms_norm(&self, x: Tensor<2>, gamma: Tensor<1>, eps: f32) -> Tensor<2> {
        norm::rms_norm(x, gamma, eps)
    }

    fn layer_norm(&self, x: Tensor<2>, gamma: Tensor<1>, beta: Tensor<1>, eps: f32) -> Tensor<2> {
        norm::layer_norm(x, gamma, beta, eps)
    }

    fn gelu(&self, x: Tensor<2>, bias: Option<Tensor<1>>, kind: Gelu) -> Tensor<2> {
        activation::gelu(x, bias, kind)
    }

    fn swiglu(&self, x: Tensor<2>) -> Tensor<2> {
        activation::swiglu(x)
    }

    fn silu(&self, x: Tensor<2>) -> Tensor<2> {
        activation::silu(x)
    }

    fn tanh(&self, x: Tensor<2>) -> Tensor<2> {
        activation::tanh(x)
    }

    fn log_softmax(&self, x: Tensor<2>) -> Tensor<2> {
        log_softmax::log_softmax(x)
    }

    fn dropout_add(
        &self,
        x: Tensor<2>,
        bias: Option<Tensor<1>>,
        residual: Tensor<2>,
        dropout: Option<&Dropout>,
    ) -> Tensor<2> {
        dropout_add::dropout_add(x, bias, Some(residual), dropout)
    }

    fn dropout(&self, x: Tensor<2>, dropout: &Dropout) -> Tensor<2> {
        dropout_add::dropout_add(x, None, None, Some(dropout))
    }

    fn linear(&self, x: Tensor<2>, weight: Weight, bias: Option<Tensor<1>>) -> Tensor<2> {
        blocked::linear(&Self, x, weight, bias)
    }

    fn embedding(&self, table: Weight, ids: &RowIds) -> Tensor<2> {
        match table {
            Weight::Full(table) => embedding::embedding(table, ids),
            Weight::Compact(_) => reference::embedding(table, ids),
        }
    }

    fn linear_cross_entropy(
        &self,
        hidden: Tensor<2>,
        weight: Tensor<2>,
        bias: Option<Tensor<1>>,
        targets: Arc<[u32]>,
        weights: Arc<[f32]>,
        smoothing: f32,
    ) -> Tensor<1> {
        blocked::linear_cross_entropy(self, hidden, weight, bias, &targets, &weights, smoothing, None)
    }
}
