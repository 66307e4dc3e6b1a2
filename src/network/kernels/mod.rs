//! The operations a transformer spends its time in: kernels of our own on the CPU and on GPUs, composed of tensor operations
//! elsewhere.
//!
//! Hidden states are `[token, hidden]`, in f32 or in 16 bits: sums, norms, softmax and losses are computed in f32 either
//! way, and a result has the type of the first input. Every function looks at the device of its first tensor: on burn's flex
//! backend it runs a kernel of `fused`, on a GPU those of `gpu`, both with handwritten gradients, and where neither serves the
//! composition in `composed`, most of which autodiff differentiates. All give the same numbers up to rounding, dropout masks
//! included.

mod adamw;
mod attention_spans;
mod compact;
pub mod composed;
mod custom_backward;
mod dropout;
mod embedding;
mod fused;
#[cfg(feature = "gpu")]
mod gpu;
mod moved;
mod rotary;
mod simd;
mod slices;

pub use adamw::{AdamW, global_norm, norm};
pub use attention_spans::AttentionSpans;
pub use compact::{Compact, Weight};
pub use custom_backward::{Grads, custom_backward, fork_in_order};
pub use dropout::Dropout;
pub use embedding::Ids;
pub use fused::CHUNK as LOGITS;
pub use moved::moved;
pub use rotary::{Pairs, Rotary, Rotation};
pub use slices::{with_slice, with_slice_mut};

use std::sync::Arc;

use burn::tensor::{DType, Device, Tensor, activation};

/// Which Gaussian error linear unit: they differ by up to 5e-4.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum Gelu {
    /// `x Φ(x)` exactly (BERT).
    Erf,
    /// The approximation by tanh (GPT-2, ChatGLM).
    Tanh,
}

/// Keys and values of attention, `[keys, kv_heads * size]` each.
#[derive(Clone, Debug)]
pub struct KeyValue {
    /// What queries are compared with.
    pub key: Tensor<2>,
    /// What is taken from there.
    pub value: Tensor<2>,
}

/// Who computes with a tensor.
enum Place {
    /// Kernels for the CPU.
    Fused,
    /// Kernels for GPUs.
    #[cfg(feature = "gpu")]
    Gpu,
    /// Operations of the backend.
    Composed,
}

impl Place {
    fn of<const D: usize>(tensor: &Tensor<D>) -> Self {
        if fused::applies(tensor) {
            return Self::Fused;
        }
        #[cfg(feature = "gpu")]
        if gpu::applies(tensor) {
            return Self::Gpu;
        }
        Self::Composed
    }
}

/// Tries the kernels of a GPU for numbers of a type, before their first use; the CPU's are tested when they're built.
///
/// # Errors
/// Why the compositions stand in for them there.
pub fn try_out(device: &Device, numbers: DType) -> Result<(), String> {
    #[cfg(feature = "gpu")]
    return gpu::try_out(device, numbers);
    #[cfg(not(feature = "gpu"))]
    {
        let _ = (device, numbers);
        Ok(())
    }
}

/// Matrix product of two matrices, or of stacks of equally many.
///
/// What [`Tensor::matmul`] gives, and on devices where that is wrong what it should.
pub fn matmul<const D: usize>(a: Tensor<D>, b: Tensor<D>) -> Tensor<D> {
    composed::matmul(a, b)
}

/// Multi-head attention over the visible keys: `[T, 3 H]` to `[T, H]`.
///
/// A row of `qkv` is `[query | key | value]`, each all heads one after the other; scores are scaled by
/// `1 / sqrt(H / heads)`. Dropout applies to the probabilities. A token that sees no key gets zeros.
pub fn attention(qkv: Tensor<2>, spans: &AttentionSpans, heads: usize, dropout: Option<&Dropout>) -> Tensor<2> {
    if !fused::applies(&qkv) {
        return composed::attention(qkv, spans, heads, dropout);
    }
    let spans = spans.host().clone();
    fused::unary(fused::Attention { spans, heads, kv_heads: heads, shared: 0, dropout: dropout.cloned() }, qkv)
}

/// Multi-head attention of queries `[Tq, heads * size]` to keys and values `[Tk, kv_heads * size]`: `[Tq, heads * size]`.
///
/// Each of the `kv_heads` serves `heads / kv_heads` consecutive query heads (Ainslie et al. 2023,
/// <https://arxiv.org/abs/2305.13245>). Scores are scaled by `1 / sqrt(size)`, and dropout applies to the
/// probabilities. The `prefix` `[P, kv_heads * size]` stands before the keys of every query that sees any (P-tuning v2,
/// Liu et al. 2021, <https://arxiv.org/abs/2110.07602>); a query that sees none gets zeros.
pub fn grouped_attention(
    query: Tensor<2>,
    keys: KeyValue,
    prefix: Option<KeyValue>,
    spans: &AttentionSpans,
    heads: usize,
    kv_heads: usize,
    dropout: Option<&Dropout>,
) -> Tensor<2> {
    if !fused::applies(&query) {
        return composed::grouped_attention(query, keys, prefix, spans, heads, kv_heads, dropout);
    }
    let shared = prefix.as_ref().map_or(0, |prefix| prefix.key.dims()[0]);
    let KeyValue { key, value } = match prefix {
        Some(prefix) => KeyValue {
            key: Tensor::cat(vec![prefix.key, keys.key], 0),
            value: Tensor::cat(vec![prefix.value, keys.value], 0),
        },
        None => keys,
    };
    let spans = spans.host().clone();
    fused::ternary(fused::Attention { spans, heads, kv_heads, shared, dropout: dropout.cloned() }, query, key, value)
}

/// Rotates pairs of elements of each head of `x [T, heads * size]` by their token's angles.
pub fn rotary(x: Tensor<2>, heads: usize, rotary: &Rotary) -> Tensor<2> {
    if !fused::applies(&x) {
        return composed::rotary(x, heads, rotary);
    }
    fused::unary(fused::RotaryKernel { heads, rotary: rotary.clone() }, x)
}

/// Root mean square normalization of each row of `x [T, H]`, with `gamma [H]` (Zhang & Sennrich 2019,
/// <https://arxiv.org/abs/1910.07467>): `x / sqrt(mean(x²) + eps) * gamma`.
pub fn rms_norm(x: Tensor<2>, gamma: Tensor<1>, eps: f32) -> Tensor<2> {
    match Place::of(&x) {
        Place::Fused => fused::binary(fused::RmsNorm { eps }, x, gamma),
        #[cfg(feature = "gpu")]
        Place::Gpu => gpu::rms_norm(x, gamma, eps),
        Place::Composed => composed::rms_norm(x, gamma, eps),
    }
}

/// Gated unit (Shazeer 2020, <https://arxiv.org/abs/2002.05202>): `silu(first half) * second half` of each row,
/// `[T, 2 F]` to `[T, F]`.
pub fn swiglu(x: Tensor<2>) -> Tensor<2> {
    match Place::of(&x) {
        Place::Fused => fused::unary(fused::SwiGlu, x),
        #[cfg(feature = "gpu")]
        Place::Gpu => gpu::swiglu(x),
        Place::Composed => composed::swiglu(x),
    }
}

/// Layer normalization of each row of `x [T, H]`, with `gamma [H]` and `beta [H]`.
pub fn layer_norm(x: Tensor<2>, gamma: Tensor<1>, beta: Tensor<1>, eps: f32) -> Tensor<2> {
    match Place::of(&x) {
        Place::Fused => fused::ternary(fused::LayerNorm { eps }, x, gamma, beta),
        #[cfg(feature = "gpu")]
        Place::Gpu => gpu::layer_norm(x, gamma, beta, eps),
        Place::Composed => composed::layer_norm(x, gamma, beta, eps),
    }
}

/// Gaussian error linear unit, element by element.
pub fn gelu(x: Tensor<2>, kind: Gelu) -> Tensor<2> {
    match Place::of(&x) {
        Place::Fused => fused::unary(fused::GeluKernel(kind), x),
        #[cfg(feature = "gpu")]
        Place::Gpu => gpu::gelu(x, None, kind),
        Place::Composed => composed::gelu(x, kind),
    }
}

/// Logarithms of a softmax over each row of `x [N, C]`.
pub fn log_softmax(x: Tensor<2>) -> Tensor<2> {
    match Place::of(&x) {
        #[cfg(feature = "gpu")]
        Place::Gpu => gpu::log_softmax(x),
        _ => activation::log_softmax(x, 1),
    }
}

/// `x sigmoid(x)`, element by element (Elfwing et al. 2018, <https://arxiv.org/abs/1702.03118>).
pub fn silu(x: Tensor<2>) -> Tensor<2> {
    match Place::of(&x) {
        #[cfg(feature = "gpu")]
        Place::Gpu => gpu::silu(x),
        _ => activation::silu(x),
    }
}

/// Hyperbolic tangent, element by element.
pub fn tanh(x: Tensor<2>) -> Tensor<2> {
    match Place::of(&x) {
        #[cfg(feature = "gpu")]
        Place::Gpu => gpu::tanh(x),
        _ => x.tanh(),
    }
}

/// `gelu(x + bias)` for `x [T, F]` and `bias [F]`.
pub fn bias_gelu(x: Tensor<2>, bias: Tensor<1>, kind: Gelu) -> Tensor<2> {
    match Place::of(&x) {
        Place::Fused => fused::binary(fused::GeluKernel(kind), x, bias),
        #[cfg(feature = "gpu")]
        Place::Gpu => gpu::gelu(x, Some(bias), kind),
        Place::Composed => composed::bias_gelu(x, bias, kind),
    }
}

/// `residual + dropout(x + bias)` for `x` and `residual` `[T, H]`, `bias [H]`; in the residual's type.
pub fn dropout_add(x: Tensor<2>, bias: Option<Tensor<1>>, residual: Tensor<2>, dropout: Option<&Dropout>) -> Tensor<2> {
    let x = x.cast(residual.dtype());
    let kernel = || fused::DropoutAdd(dropout.cloned());
    match (Place::of(&x), bias) {
        (Place::Fused, Some(bias)) => fused::ternary(kernel(), x, residual, bias),
        (Place::Fused, None) => fused::binary(kernel(), x, residual),
        #[cfg(feature = "gpu")]
        (Place::Gpu, bias) => gpu::dropout_add(x, bias, Some(residual), dropout),
        (Place::Composed, bias) => composed::dropout_add(x, bias, residual, dropout),
    }
}

/// Zeroes elements of `x [T, H]` at random and scales the others up.
pub fn dropout(x: Tensor<2>, dropout: &Dropout) -> Tensor<2> {
    match Place::of(&x) {
        Place::Fused => fused::unary(fused::DropoutAdd(Some(dropout.clone())), x),
        #[cfg(feature = "gpu")]
        Place::Gpu => gpu::dropout_add(x, None, None, Some(dropout)),
        Place::Composed => composed::dropout(x, dropout),
    }
}

/// `x weightᵀ + bias` for `x [T, I]`, `weight [O, I]` (Hugging Face's layout, and `x`'s type) and `bias [O]`: `[T, O]`.
///
/// A compact weight is expanded for this call alone, and for its backward pass once more; other backends than the CPU's
/// keep it expanded until then.
pub fn linear(x: Tensor<2>, weight: impl Into<Weight>, bias: Option<Tensor<1>>) -> Tensor<2> {
    let weight = weight.into();
    if !fused::applies(&x) {
        return composed::linear(x, weight, bias);
    }
    match (weight, bias) {
        (Weight::Full(weight), Some(bias)) => fused::ternary(fused::Linear, x, weight, bias),
        (Weight::Full(weight), None) => fused::binary(fused::Linear, x, weight),
        (Weight::Compact(weight), Some(bias)) => fused::binary(fused::CompactLinear(weight), x, bias),
        (Weight::Compact(weight), None) => fused::unary(fused::CompactLinear(weight), x),
    }
}

/// Rows of `weight [V, H]`, one an id: `[ids, H]`. The gradient is added up in the order of the ids.
///
/// Also takes hidden states out of a batch, with token places for ids.
pub fn embedding(weight: Tensor<2>, ids: &Ids) -> Tensor<2> {
    match Place::of(&weight) {
        Place::Fused => fused::unary(fused::Embedding(ids.host.clone()), weight),
        #[cfg(feature = "gpu")]
        Place::Gpu => gpu::embedding(weight, ids),
        Place::Composed => composed::embedding(weight, ids),
    }
}

/// Sum of a row of each table: of `[V, H]` tables and as many ids for each, `[ids, H]`.
pub fn embedding_sum<'a>(
    first: (Tensor<2>, &Ids),
    others: impl IntoIterator<Item = (Tensor<2>, &'a Ids)>,
) -> Tensor<2> {
    let sum = embedding(first.0, first.1);
    others.into_iter().fold(sum, |sum, (table, ids)| match fused::applies(&sum) {
        true => fused::binary(fused::AddEmbedding(ids.host.clone()), sum, table),
        false => sum + embedding(table, ids),
    })
}

/// Weighted sum of the cross-entropies between `softmax(hidden weightᵀ + bias)` and the targets; one element, in f32.
///
/// `hidden [N, H]`, `weight [V, H]`, `bias [V]`, a target and a weight for each of the N rows. `smoothing` takes that
/// share of the target's probability and spreads it evenly over all V classes. The logits `[N, V]` never exist as a
/// whole.
pub fn linear_cross_entropy(
    hidden: Tensor<2>,
    weight: Tensor<2>,
    bias: Option<Tensor<1>>,
    targets: Arc<[u32]>,
    weights: Arc<[f32]>,
    smoothing: f32,
) -> Tensor<1> {
    if !fused::applies(&hidden) {
        return composed::linear_cross_entropy(hidden, weight, bias, &targets, &weights, smoothing);
    }
    let kernel = fused::LinearCrossEntropy { targets, weights, smoothing };
    let hidden = hidden.cast(DType::F32);
    match bias {
        Some(bias) => fused::ternary(kernel, hidden, weight, bias),
        None => fused::binary(kernel, hidden, weight),
    }
}
