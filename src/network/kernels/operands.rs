//! Operands of kernels other than single tensors.

use burn::tensor::Tensor;

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
    /// Keys.
    pub key: Tensor<2>,
    /// Values.
    pub value: Tensor<2>,
}

/// Keys and values that every query sees whose span isn't empty, before those of its span (P-tuning v2, Liu et al. 2021,
/// <https://arxiv.org/abs/2110.07602>).
#[derive(Clone, Debug)]
#[expect(clippy::large_enum_variant, reason = "it lives for one call")]
pub enum PrefixKeys {
    /// Beside those that spans count: `[P, kv_heads * size]`.
    Beside(KeyValue),
    /// So many of the first rows of a batch of one row, as a cache has them; spans count from there on.
    First(usize),
}
