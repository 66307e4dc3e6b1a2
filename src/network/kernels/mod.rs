//! The operations of a transformer: attention, normalizations, activations, embeddings, losses. Kernels of our own on the
//! CPU and on GPUs, burn's tensor operations elsewhere.
//!
//! Call the functions of this module. To add an operation, write it out of burn's operations in `reference` (its definition,
//! which tests compare kernels with), add a method to the trait `Operations` that calls it, and a function here. To add
//! a kernel for it, write a file in `fused` (CPU, `linear.rs` is an example with a backward pass) or `gpu` and override
//! the method in that folder's `operations.rs`.
//!
//! Hidden states are `[token, hidden]`, in f32 or in 16 bits: sums, norms, softmax and losses are computed in f32 either
//! way, and a result has the type of the first input. Every function looks at the device of its first tensor: on burn's flex
//! backend it runs a kernel of `fused`, on a GPU one of `gpu`, both with gradients of their own, and where neither applies
//! the operations of `reference`, most of which autodiff differentiates. All give the same results up to rounding, dropout
//! masks included. On the CPU [`Arithmetic`] decides whether they're the same on every machine to the bit.

mod adamw;
mod attention_spans;
mod blocked;
mod compact;
mod compactor;
mod custom_backward;
mod dropout;
mod embedding;
mod fused;
#[cfg(feature = "gpu")]
mod gpu;
mod mapped;
mod matmul;
mod memory;
mod moved;
mod operands;
mod operations;
pub mod reference;
mod rotary;
mod rounding;
mod simd;
mod slices;
pub mod watch;

pub use crate::support::arithmetic::Arithmetic;
pub use adamw::{AdamWStep, block_squares, global_norm, norm};
pub use attention_spans::AttentionSpans;
pub use blocked::{LOGITS as BLOCKED_LOGITS, SCORES as BLOCKED_SCORES};
pub use compact::{ActivationForm, COMPACT_VERSION, Compact, CompactForm, GROUP, Weight};
pub use compactor::Compactor;
pub use custom_backward::{Grads, custom_backward, fork_in_order};
pub use dropout::Dropout;
pub use embedding::RowIds;
pub use fused::CHUNK as LOGITS;
pub use mapped::Mapped;
pub use moved::moved;
pub use operands::{Gelu, KeyValue, PrefixKeys};
pub use rotary::{Rotary, RotaryPairs, Rotation};
pub use slices::{with_slice, with_slice_mut, with_slices_mut};

use std::sync::Arc;

use burn::tensor::{DType, Device, Tensor};

use self::{blocked::Between, operations::Operations, reference::Reference, watch::Watched};

/// How the CPU computes in this process, as records have it: `portable`, or `fast` with the vectors that it has, by which
/// matrix products differ in their last bits.
pub fn arithmetic() -> &'static str {
    match (Arithmetic::current(), simd::level()) {
        (Arithmetic::Portable, _) => "portable",
        (Arithmetic::Fast, 4) => "fast (AVX-512)",
        (Arithmetic::Fast, 3) => "fast (AVX2)",
        (Arithmetic::Fast, _) => "fast",
    }
}

/// The implementation for a tensor: chosen here alone, by its device and dtype.
fn backend<const D: usize>(tensor: &Tensor<D>) -> &'static dyn Operations {
    let watched = watch::applies();
    if fused::applies(tensor) {
        return if watched { &Watched { by: &fused::Fused, kernels: true } } else { &fused::Fused };
    }
    #[cfg(feature = "gpu")]
    if gpu::applies(tensor) {
        return if watched { &Watched { by: &gpu::Gpu, kernels: true } } else { &gpu::Gpu };
    }
    if watched { &Watched { by: &Reference, kernels: false } } else { &Reference }
}

/// The implementation for compact matrices, whatever their elements are.
fn of_device(device: &Device) -> &'static dyn Operations {
    if slices::on_flex(device) { &fused::Fused } else { &Reference }
}

/// Tries the kernels of a GPU with elements of a dtype before their first use; the CPU's are tested when they're built.
///
/// # Errors
/// Why `reference` is used there in their place.
pub fn try_out(device: &Device, dtype: DType) -> Result<(), String> {
    #[cfg(feature = "gpu")]
    return gpu::try_out(device, dtype);
    #[cfg(not(feature = "gpu"))]
    {
        let _ = (device, dtype);
        Ok(())
    }
}

/// Computes by `reference` on a GPU from now on, for this reason: for one whose kernels have turned out wrong after their trial.
pub fn give_up(device: &Device, reason: &str) {
    #[cfg(feature = "gpu")]
    gpu::give_up(device, reason);
    #[cfg(not(feature = "gpu"))]
    let _ = (device, reason);
}

/// Uses the kernels of a GPU with elements of a dtype whatever comes out of them: for a driver that computes nothing, where what
/// it's given is to be read.
#[cfg(feature = "gpu")]
pub fn use_untried(device: &Device, dtype: DType) {
    gpu::use_untried(device, dtype);
}

/// Has GPUs' matrix products computed by the kernel that their backend takes for the shape, in the whole process, where else
/// several are timed for the fastest. Products that are left to autodiff stay as they are.
pub fn stop_tuning() {
    matmul::stop_tuning();
}

/// Whether memory that the units of a GPU share holds what they put there. A driver may end the process on such a kernel.
#[cfg(feature = "vulkan")]
pub fn shared_memory_holds(device: &Device) -> bool {
    gpu::shared_memory_holds(device)
}

/// Matrix product of `a [M, K]` and `b [K, N]`: what [`Tensor::matmul`] gives, and on devices where that is wrong what it
/// should.
pub fn matmul(a: Tensor<2>, b: Tensor<2>) -> Tensor<2> {
    backend(&a).matmul(a, b)
}

/// Multi-head self-attention, each token over the keys in its attention span: `[T, 3 H]` to `[T, H]`.
///
/// A row of `qkv` is `[query | key | value]`, each all heads one after the other; scores are scaled by
/// `1 / sqrt(H / heads)`. Dropout applies to the probabilities. A token with an empty span gets zeros.
pub fn attention(qkv: Tensor<2>, spans: &AttentionSpans, heads: usize, dropout: Option<&Dropout>) -> Tensor<2> {
    backend(&qkv).attention(qkv, spans, heads, dropout)
}

/// The same for devices without kernels of their own for all of it, in blocks of at most so many queries: for tests of what
/// blocks have to do with each other.
pub fn attention_in_blocks(
    queries: usize,
    qkv: Tensor<2>,
    spans: &AttentionSpans,
    heads: usize,
    dropout: Option<&Dropout>,
) -> Tensor<2> {
    blocked::attention(between(&qkv), qkv, spans, heads, dropout, Some(queries))
}

/// Multi-head attention of queries `[Tq, heads * size]` to keys and values `[Tk, kv_heads * size]`: `[Tq, heads * size]`.
///
/// Each of the `kv_heads` serves `heads / kv_heads` consecutive query heads (Ainslie et al. 2023,
/// <https://arxiv.org/abs/2305.13245>). Scores are scaled by `1 / sqrt(size)`, and dropout applies to the
/// probabilities. The `prefix` comes before the keys of every query whose span isn't empty; a query with an empty span gets
/// zeros.
pub fn grouped_attention(
    query: Tensor<2>,
    keys: KeyValue,
    prefix: Option<PrefixKeys>,
    spans: &AttentionSpans,
    heads: usize,
    kv_heads: usize,
    dropout: Option<&Dropout>,
) -> Tensor<2> {
    debug_assert!(
        spans.rows == 1 || !matches!(prefix, Some(PrefixKeys::First(_))),
        "rows have a prefix of their own each"
    );
    backend(&query).grouped_attention(query, keys, prefix, spans, heads, kv_heads, dropout)
}

/// Rotates pairs of elements of each head of `x [T, heads * size]` by their token's angles.
pub fn rotary(x: Tensor<2>, heads: usize, rotary: &Rotary) -> Tensor<2> {
    backend(&x).rotary(x, heads, rotary)
}

/// Root mean square normalization of each row of `x [T, H]`, with `gamma [H]` (Zhang & Sennrich 2019,
/// <https://arxiv.org/abs/1910.07467>): `x / sqrt(mean(x²) + eps) * gamma`.
pub fn rms_norm(x: Tensor<2>, gamma: Tensor<1>, eps: f32) -> Tensor<2> {
    backend(&x).rms_norm(x, gamma, eps)
}

/// Gated unit (Shazeer 2020, <https://arxiv.org/abs/2002.05202>): `silu(first half) * second half` of each row,
/// `[T, 2 F]` to `[T, F]`.
pub fn swiglu(x: Tensor<2>) -> Tensor<2> {
    backend(&x).swiglu(x)
}

/// Layer normalization of each row of `x [T, H]`, with `gamma [H]` and `beta [H]`.
pub fn layer_norm(x: Tensor<2>, gamma: Tensor<1>, beta: Tensor<1>, eps: f32) -> Tensor<2> {
    backend(&x).layer_norm(x, gamma, beta, eps)
}

/// Gaussian error linear unit, element by element.
pub fn gelu(x: Tensor<2>, kind: Gelu) -> Tensor<2> {
    backend(&x).gelu(x, None, kind)
}

/// `gelu(x + bias)` for `x [T, F]` and `bias [F]`.
pub fn bias_gelu(x: Tensor<2>, bias: Tensor<1>, kind: Gelu) -> Tensor<2> {
    backend(&x).gelu(x, Some(bias), kind)
}

/// Logarithms of a softmax over each row of `x [N, C]`.
pub fn log_softmax(x: Tensor<2>) -> Tensor<2> {
    backend(&x).log_softmax(x)
}

/// `x sigmoid(x)`, element by element (Elfwing et al. 2018, <https://arxiv.org/abs/1702.03118>).
pub fn silu(x: Tensor<2>) -> Tensor<2> {
    backend(&x).silu(x)
}

/// Hyperbolic tangent, element by element.
pub fn tanh(x: Tensor<2>) -> Tensor<2> {
    backend(&x).tanh(x)
}

/// Sum of all elements of `x [N, C]`: `[1]`.
pub fn sum(x: Tensor<2>) -> Tensor<1> {
    backend(&x).sum(x)
}

/// Sum of all elements of `x [N, C]` in an order that doesn't depend on the number of threads: `[1, 1]`.
pub fn sum_by_rows(x: Tensor<2>) -> Tensor<2> {
    backend(&x).sum_by_rows(x)
}

/// `residual + dropout(x + bias)` for `x` and `residual` `[T, H]`, `bias [H]`; in the residual's type.
pub fn dropout_add(x: Tensor<2>, bias: Option<Tensor<1>>, residual: Tensor<2>, dropout: Option<&Dropout>) -> Tensor<2> {
    let x = x.cast(residual.dtype());
    backend(&x).dropout_add(x, bias, residual, dropout)
}

/// Zeroes elements of `x [T, H]` at random and scales the others up.
pub fn dropout(x: Tensor<2>, dropout: &Dropout) -> Tensor<2> {
    backend(&x).dropout(x, dropout)
}

/// `x weightᵀ + bias` for `x [T, I]`, `weight [O, I]` (Hugging Face's layout, and `x`'s type) and `bias [O]`: `[T, O]`.
///
/// A compact weight is expanded for this call alone, and for its backward pass once more; other backends than the CPU's
/// keep it expanded until then.
pub fn linear(x: Tensor<2>, weight: impl Into<Weight>, bias: Option<Tensor<1>>) -> Tensor<2> {
    backend(&x).linear(x, weight.into(), bias)
}

/// Embedding lookup: rows of `weight [V, H]`, one per id: `[ids, H]`. The gradient is added up in the order of the ids.
///
/// Also takes hidden states out of a batch, with slots for ids. Rows of a compact table are expanded.
pub fn embedding(weight: impl Into<Weight>, ids: &RowIds) -> Tensor<2> {
    let weight = weight.into();
    let backend = match &weight {
        Weight::Full(weight) => backend(weight),
        Weight::Compact(weight) => of_device(&weight.device()),
    };
    backend.embedding(weight, ids)
}

/// Sum of embedding lookups, one per table: of `[V, H]` tables and as many ids for each, `[ids, H]`.
pub fn embedding_sum<'a, W: Into<Weight>>(
    first: (impl Into<Weight>, &RowIds),
    others: impl IntoIterator<Item = (W, &'a RowIds)>,
) -> Tensor<2> {
    let sum = embedding(first.0, first.1);
    others.into_iter().fold(sum, |sum, (table, ids)| backend(&sum).add_embedding(sum, table.into(), ids))
}

/// Weighted sum of the cross-entropies between `softmax(hidden weightᵀ + bias)` and the targets; one element, in f32.
///
/// `hidden [N, H]`, `weight [V, H]`, `bias [V]`, a target and a weight for each of the N rows. `smoothing` takes that
/// share of the target's probability and spreads it evenly over all V classes. The logits `[N, V]` never exist as a
/// whole; a compact weight does.
pub fn linear_cross_entropy(
    hidden: Tensor<2>,
    weight: impl Into<Weight>,
    bias: Option<Tensor<1>>,
    targets: Arc<[u32]>,
    weights: Arc<[f32]>,
    smoothing: f32,
) -> Tensor<1> {
    let weight = match weight.into() {
        Weight::Full(weight) => weight,
        Weight::Compact(weight) => weight.expand().cast(hidden.dtype()),
    };
    backend(&hidden).linear_cross_entropy(hidden, weight, bias, targets, weights, smoothing)
}

/// The same for devices without kernels of their own for all of it, with the logits of so many rows at a time; as
/// [`attention_in_blocks`].
pub fn linear_cross_entropy_in_blocks(
    rows: usize,
    hidden: Tensor<2>,
    weight: Tensor<2>,
    bias: Option<Tensor<1>>,
    targets: &[u32],
    weights: &[f32],
    smoothing: f32,
) -> Tensor<1> {
    blocked::linear_cross_entropy(between(&hidden), hidden, weight, bias, targets, weights, smoothing, Some(rows))
}

/// What computes between the matrix products of [`blocked`] operations on a tensor.
fn between<const D: usize>(tensor: &Tensor<D>) -> &'static dyn Between {
    #[cfg(feature = "gpu")]
    if gpu::applies(tensor) {
        return &gpu::Gpu;
    }
    let _ = tensor;
    &Reference
}
