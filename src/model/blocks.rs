//! What transformers are put together from. Blocks hold the numbers of their parameters, not the parameters.

use burn::tensor::Tensor;

use super::{
    initial::Initial,
    parameters::{Builder, MatrixId, VectorId},
    pass::Pass,
};
use crate::kernels::{self, Gelu};

/// `x weightᵀ + bias`.
#[derive(Clone, Debug)]
pub struct Linear {
    weight: MatrixId,
    bias: VectorId,
}

impl Linear {
    /// `NAME.weight [output, input]` and `NAME.bias [output]`.
    pub fn new(builder: &mut Builder, name: &str, [output, input]: [usize; 2], deviation: f64) -> Self {
        builder.multiplies([output, input]);
        builder.keeps(input);
        Self {
            weight: builder.matrix(format!("{name}.weight"), [output, input], Initial::Normal(deviation)),
            bias: builder.vector(format!("{name}.bias"), output, Initial::Zeros),
        }
    }

    /// `[N, input]` to `[N, output]`.
    pub fn forward(&self, pass: &Pass, x: Tensor<2>) -> Tensor<2> {
        kernels::linear(x, pass.matrix(self.weight), Some(pass.vector(self.bias)))
    }

    /// `gelu(forward(x))`, with bias and activation in one go.
    pub fn gelu(&self, pass: &Pass, x: Tensor<2>, kind: Gelu) -> Tensor<2> {
        kernels::bias_gelu(kernels::linear(x, pass.matrix(self.weight), None), pass.vector(self.bias), kind)
    }

    /// `residual + dropout(forward(x))`, with bias, dropout and addition in one go.
    fn add_to(&self, pass: &Pass, x: Tensor<2>, residual: Tensor<2>) -> Tensor<2> {
        let product = kernels::linear(x, pass.matrix(self.weight), None);
        kernels::dropout_add(product, Some(pass.vector(self.bias)), residual, pass.dropout().as_ref())
    }
}

/// Layer normalization with scale and shift.
#[derive(Clone, Debug)]
pub struct Norm {
    weight: VectorId,
    bias: VectorId,
    epsilon: f32,
}

impl Norm {
    /// `NAME.weight` and `NAME.bias`, both `[size]`.
    pub fn new(builder: &mut Builder, name: &str, size: usize, epsilon: f32) -> Self {
        builder.keeps(size);
        Self {
            weight: builder.vector(format!("{name}.weight"), size, Initial::Ones),
            bias: builder.vector(format!("{name}.bias"), size, Initial::Zeros),
            epsilon,
        }
    }

    /// Normalizes each row of `[T, size]`.
    pub fn forward(&self, pass: &Pass, x: Tensor<2>) -> Tensor<2> {
        kernels::layer_norm(x, pass.vector(self.weight), pass.vector(self.bias), self.epsilon)
    }
}

/// Multi-head self-attention with one projection to queries, keys and values.
#[derive(Clone, Debug)]
pub struct SelfAttention {
    query_key_value: Linear,
    dense: Linear,
    heads: usize,
}

impl SelfAttention {
    /// From the two layers: `[3 hidden, hidden]` with the rows `[queries | keys | values]`, and `[hidden, hidden]`.
    pub fn new(query_key_value: Linear, dense: Linear, heads: usize) -> Self {
        Self { query_key_value, dense, heads }
    }

    /// `residual + dropout(attention(x))`, all `[T, hidden]`.
    pub fn add_to(&self, pass: &Pass, x: Tensor<2>, residual: Tensor<2>) -> Tensor<2> {
        let projected = self.query_key_value.forward(pass, x);
        let context = pass.self_attention(projected, self.heads);
        self.dense.add_to(pass, context, residual)
    }
}

/// Two linear layers with a GELU between them.
#[derive(Clone, Debug)]
pub struct FeedForward {
    up: Linear,
    down: Linear,
    gelu: Gelu,
}

impl FeedForward {
    /// From the two layers.
    pub fn new(up: Linear, down: Linear, gelu: Gelu) -> Self {
        Self { up, down, gelu }
    }

    /// `residual + dropout(feed_forward(x))`, all `[T, hidden]`.
    pub fn add_to(&self, pass: &Pass, x: Tensor<2>, residual: Tensor<2>) -> Tensor<2> {
        let inner = self.up.gelu(pass, x, self.gelu);
        self.down.add_to(pass, inner, residual)
    }
}
