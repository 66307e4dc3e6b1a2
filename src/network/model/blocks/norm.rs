//! Normalization of each hidden state.

use burn::tensor::Tensor;

use crate::network::{
    kernels,
    model::{builder::Builder, ids::VectorId, initial::Initial, pass::Pass},
};

/// Which normalization, and what it adds to variances.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum NormKind {
    /// To mean 0 and variance 1, with scale and shift (Ba et al. 2016, <https://arxiv.org/abs/1607.06450>).
    Layer(f64),
    /// To mean square 1, with scale (Zhang & Sennrich 2019, <https://arxiv.org/abs/1910.07467>).
    Rms(f64),
}

/// A normalization with its parameters.
#[derive(Clone, Debug)]
pub struct Norm {
    kind: NormKind,
    weight: VectorId,
    /// Layer norm's.
    bias: Option<VectorId>,
}

impl Norm {
    /// `NAME.weight [size]`, and for layer norm `NAME.bias [size]`.
    pub fn new(builder: &mut Builder, name: &str, size: usize, kind: NormKind) -> Self {
        builder.keeps(size);
        let weight = builder.vector(format!("{name}.weight"), size, Initial::Ones);
        let bias = match kind {
            NormKind::Layer(_) => Some(builder.vector(format!("{name}.bias"), size, Initial::Zeros)),
            NormKind::Rms(_) => None,
        };
        Self { kind, weight, bias }
    }

    /// Normalizes each row of `[T, size]`.
    pub fn forward(&self, pass: &Pass, x: Tensor<2>) -> Tensor<2> {
        let weight = pass.vector(self.weight);
        let (NormKind::Layer(epsilon) | NormKind::Rms(epsilon)) = self.kind;
        match self.bias {
            Some(bias) => kernels::layer_norm(x, weight, pass.vector(bias), epsilon as f32),
            None => kernels::rms_norm(x, weight, epsilon as f32),
        }
    }
}
