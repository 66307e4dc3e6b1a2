//! The trait of operations that each backend implements.

use std::sync::Arc;

use burn::tensor::{Tensor, activation};

use super::{AttentionSpans, Dropout, Gelu, KeyValue, PrefixKeys, RowIds, Weight, matmul, reference};

/// Operations on the tensors of one kind of device, with their gradients. See the functions of [`super`] of the same names;
/// defaults are those of `reference`, out of burn's operations.
pub(super) trait Operations: Sync {
    fn matmul(&self, a: Tensor<2>, b: Tensor<2>) -> Tensor<2> {
        matmul::matmul(a, b)
    }

    fn attention(&self, qkv: Tensor<2>, spans: &AttentionSpans, heads: usize, dropout: Option<&Dropout>) -> Tensor<2> {
        reference::attention(qkv, spans, heads, dropout)
    }

    #[expect(clippy::too_many_arguments, reason = "it takes what attention takes")]
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
        reference::grouped_attention(query, keys, prefix, spans, heads, kv_heads, dropout)
    }

    fn rotary(&self, x: Tensor<2>, heads: usize, rotary: &super::Rotary) -> Tensor<2> {
        reference::rotary(x, heads, rotary)
    }

    fn rms_norm(&self, x: Tensor<2>, gamma: Tensor<1>, eps: f32) -> Tensor<2> {
        reference::rms_norm(x, gamma, eps)
    }

    fn layer_norm(&self, x: Tensor<2>, gamma: Tensor<1>, beta: Tensor<1>, eps: f32) -> Tensor<2> {
        reference::layer_norm(x, gamma, beta, eps)
    }

    fn gelu(&self, x: Tensor<2>, bias: Option<Tensor<1>>, kind: Gelu) -> Tensor<2> {
        match bias {
            Some(bias) => reference::bias_gelu(x, bias, kind),
            None => reference::gelu(x, kind),
        }
    }

    fn swiglu(&self, x: Tensor<2>) -> Tensor<2> {
        reference::swiglu(x)
    }

    fn silu(&self, x: Tensor<2>) -> Tensor<2> {
        activation::silu(x)
    }

    fn tanh(&self, x: Tensor<2>) -> Tensor<2> {
        x.tanh()
    }

    fn log_softmax(&self, x: Tensor<2>) -> Tensor<2> {
        activation::log_softmax(x, 1)
    }

    fn sum(&self, x: Tensor<2>) -> Tensor<1> {
        x.sum()
    }

    fn sum_by_rows(&self, x: Tensor<2>) -> Tensor<2> {
        x.sum_dim(1).sum_dim(0)
    }

    /// `x` is in the residual's type.
    fn dropout_add(
        &self,
        x: Tensor<2>,
        bias: Option<Tensor<1>>,
        residual: Tensor<2>,
        dropout: Option<&Dropout>,
    ) -> Tensor<2> {
        reference::dropout_add(x, bias, residual, dropout)
    }

    fn dropout(&self, x: Tensor<2>, dropout: &Dropout) -> Tensor<2> {
        reference::dropout(x, dropout)
    }

    fn linear(&self, x: Tensor<2>, weight: Weight, bias: Option<Tensor<1>>) -> Tensor<2> {
        reference::linear(x, weight, bias)
    }

    fn embedding(&self, table: Weight, ids: &RowIds) -> Tensor<2> {
        reference::embedding(table, ids)
    }

    /// `sum` plus rows of a table.
    fn add_embedding(&self, sum: Tensor<2>, table: Weight, ids: &RowIds) -> Tensor<2> {
        sum + self.embedding(table, ids)
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
        reference::linear_cross_entropy(hidden, weight, bias, targets, weights, smoothing)
    }
}

impl Operations for reference::Reference {}
