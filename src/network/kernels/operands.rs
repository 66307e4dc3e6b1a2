//! What operations are given beside tensors.

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
    /// What queries are compared with.
    pub key: Tensor<2>,
    /// What is taken from there.
    pub value: Tensor<2>,
}
