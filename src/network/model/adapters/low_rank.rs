//! What LoRA adds to the output of a linear layer.

use burn::tensor::Tensor;

use super::layout::{Lora, LoraPart};
use crate::network::{kernels, model::pass::Pass};

impl Lora {
    /// `y + scale * B(A dropout(x))` for `x [N, in]` and `y [N, out]`.
    pub(in crate::network::model) fn add_to(&self, pass: &Pass, x: Tensor<2>, y: Tensor<2>) -> Tensor<2> {
        let tokens = x.dims()[0];
        let x = match pass.dropout_of(self.dropout, tokens) {
            Some(dropout) => kernels::dropout(x, &dropout),
            None => x,
        };
        let change = |part: &LoraPart| match part.change {
            Some([a, b]) => {
                let inner = kernels::linear(x.clone(), pass.operand(a), None) * self.scale;
                kernels::linear(inner, pass.operand(b), None)
            }
            None => Tensor::zeros([tokens, part.rows], (&x.device(), x.dtype())),
        };
        match &self.parts[..] {
            [all] => y + change(all),
            parts => y + Tensor::cat(parts.iter().map(change).collect(), 1),
        }
    }
}
