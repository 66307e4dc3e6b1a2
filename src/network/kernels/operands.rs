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
