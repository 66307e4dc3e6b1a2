//! The kernels as tensor operations of burn's, most of which autodiff differentiates: what runs where there are no kernels of
//! our own, and what these are tested against.

mod between;
mod dropout;
mod losses;
mod rotary;
mod softmax;

pub(super) use between::Reference;
pub use dropout::dropout;
pub use rotary::rotary;

use std::sync::Arc;

use burn::tensor::{DType, Tensor, activation};

use super::{AttentionSpans, Dropout, Gelu, KeyValue, PrefixKeys, RowIds, Weight, blocked};

/// See [`super::attention`].
pub fn attention(qkv: Tensor<2>, spans: &AttentionSpans, heads: usize, dropout: Option<&Dropout>) -> Tensor<2> {
    blocked::attention(&Reference, qkv, spans, heads, dropout, None)
}

/// See [`super::grouped_attention`].
pub fn grouped_attention(
    query: Tensor<2>,
    keys: KeyValue,
    prefix: Option<PrefixKeys>,
    spans: &AttentionSpans,
    heads: usize,
    kv_heads: usize,
    dropout: Option<&Dropout>,
) -> Tensor<2> {
    blocked::grouped_attention(&Reference, query, keys, prefix, spans, heads, kv_heads, dropout)
}

/// See [`super::linear`].
pub fn linear(x: Tensor<2>, weight: impl Into<Weight>, bias: Option<Tensor<1>>) -> Tensor<2> {
    blocked::linear(&Reference, x, weight.into(), bias)
}

/// See [`super::linear_cross_entropy`].
pub fn linear_cross_entropy(
    hidden: Tensor<2>,
    weight: Tensor<2>,
    bias: Option<Tensor<1>>,
    targets: Arc<[u32]>,
    weights: Arc<[f32]>,
    smoothing: f32,
) -> Tensor<1> {
    blocked::linear_cross_entropy(&Reference, hidden, weight, bias, &targets, &weights, smoothing, None)
}

/// See [`super::layer_norm`].
pub fn layer_norm(x: Tensor<2>, gamma: Tensor<1>, beta: Tensor<1>, eps: f32) -> Tensor<2> {
    let dtype = x.dtype();
    let x = x.cast(DType::F32);
    let centred = x.clone() - x.mean_dim(1);
    let variance = (centred.clone() * centred.clone()).mean_dim(1);
    let normed = centred / variance.add_scalar(eps).sqrt() * gamma.unsqueeze() + beta.unsqueeze();
    normed.cast(dtype)
}

/// See [`super::rms_norm`].
pub fn rms_norm(x: Tensor<2>, gamma: Tensor<1>, eps: f32) -> Tensor<2> {
    let dtype = x.dtype();
    let x = x.cast(DType::F32);
    let square = (x.clone() * x.clone()).mean_dim(1);
    (x / square.add_scalar(eps).sqrt() * gamma.unsqueeze()).cast(dtype)
}

/// See [`super::gelu`].
pub fn gelu(x: Tensor<2>, kind: Gelu) -> Tensor<2> {
    match kind {
        // Not `activation::gelu`, whose gradient is that of the approximation on some backends.
        Gelu::Erf => x.clone() * x.mul_scalar(std::f32::consts::FRAC_1_SQRT_2).erf().add_scalar(1.0).mul_scalar(0.5),
        Gelu::Tanh => activation::gelu_approximate(x),
    }
}

/// See [`super::bias_gelu`].
pub fn bias_gelu(x: Tensor<2>, bias: Tensor<1>, kind: Gelu) -> Tensor<2> {
    let bias = bias.cast(x.dtype());
    gelu(x + bias.unsqueeze(), kind)
}

/// See [`super::swiglu`].
pub fn swiglu(x: Tensor<2>) -> Tensor<2> {
    let inner = x.dims()[1] / 2;
    activation::silu(x.clone().narrow(1, 0, inner)) * x.narrow(1, inner, inner)
}

/// See [`super::dropout_add`].
pub fn dropout_add(x: Tensor<2>, bias: Option<Tensor<1>>, residual: Tensor<2>, dropout: Option<&Dropout>) -> Tensor<2> {
    let x = match bias {
        Some(bias) => {
            let bias = bias.cast(x.dtype());
            x + bias.unsqueeze()
        }
        None => x,
    };
    match dropout {
        Some(dropout) => residual + self::dropout(x, dropout),
        None => residual + x,
    }
}

/// See [`super::embedding`].
pub fn embedding(table: impl Into<Weight>, ids: &RowIds) -> Tensor<2> {
    match table.into() {
        Weight::Full(table) => table.select(0, ids.tensor.clone()),
        Weight::Compact(table) => table.select(ids.tensor.clone()).expand(),
    }
}
