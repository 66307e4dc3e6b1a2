//! Linear layers: every product with a layer's weight is computed here.

use burn::tensor::Tensor;

use crate::network::{
    kernels::{self, Gelu},
    model::{
        builder::Builder,
        ids::{VectorId, WeightId},
        initial::Initial,
        pass::Pass,
    },
};

/// `x weightᵀ + bias`, or without the bias.
#[derive(Clone, Debug)]
pub struct Linear {
    weight: WeightId,
    bias: Option<VectorId>,
}

impl Linear {
    /// `NAME.weight [output, input]`, and `NAME.bias [output]` where it has a `bias`.
    pub fn new(builder: &mut Builder, name: &str, [output, input]: [usize; 2], bias: bool, deviation: f64) -> Self {
        Self {
            weight: builder.weight(format!("{name}.weight"), [output, input], Initial::Normal(deviation)),
            bias: bias.then(|| builder.vector(format!("{name}.bias"), output, Initial::Zeros)),
        }
    }

    /// `[N, input]` to `[N, output]`.
    pub fn forward(&self, pass: &Pass, x: Tensor<2>) -> Tensor<2> {
        self.product(pass, x, self.bias(pass))
    }

    /// `gelu(forward(x))`, with bias and activation in one go.
    pub fn gelu(&self, pass: &Pass, x: Tensor<2>, kind: Gelu) -> Tensor<2> {
        let product = self.product(pass, x, None);
        match self.bias(pass) {
            Some(bias) => kernels::bias_gelu(product, bias, kind),
            None => kernels::gelu(product, kind),
        }
    }

    /// `residual + dropout(forward(x))`, with bias, dropout and addition in one go.
    pub fn add_to(&self, pass: &Pass, x: Tensor<2>, residual: Tensor<2>) -> Tensor<2> {
        kernels::dropout_add(self.product(pass, x, None), self.bias(pass), residual, pass.dropout().as_ref())
    }

    /// `x weightᵀ + bias`, and what an adapter adds to it.
    fn product(&self, pass: &Pass, x: Tensor<2>, bias: Option<Tensor<1>>) -> Tensor<2> {
        let (x, weight) = (pass.to_operand(x), pass.weight(self.weight));
        match pass.lora(self.weight) {
            Some(lora) => lora.add_to(pass, x.clone(), kernels::linear(x, weight, bias)),
            None => kernels::linear(x, weight, bias),
        }
    }

    fn bias(&self, pass: &Pass) -> Option<Tensor<1>> {
        self.bias.map(|bias| pass.vector(bias))
    }
}
