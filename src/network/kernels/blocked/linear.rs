//! Linear layers with gradients of their own.

use burn::tensor::{DType, Tensor};

use super::Between;
use crate::network::kernels::{
    Weight,
    custom_backward::{Grads, custom_backward},
    matmul::matmul,
};

/// See [`crate::network::kernels::linear`]. A compact weight is expanded until the backward pass is over.
pub(in crate::network::kernels) fn linear(
    between: &'static dyn Between,
    x: Tensor<2>,
    weight: Weight,
    bias: Option<Tensor<1>>,
) -> Tensor<2> {
    let dtype = x.dtype();
    let weight = match weight {
        Weight::Full(weight) => weight,
        Weight::Compact(weight) => weight.expand().cast(dtype),
    };
    let inputs: Vec<Tensor<2>> = [x, weight].into_iter().chain(bias.map(Tensor::unsqueeze)).collect();
    let wanted: Vec<bool> = inputs.iter().map(Tensor::is_tracked).collect();
    let types: Vec<DType> = inputs.iter().map(Tensor::dtype).collect();
    let plain: Vec<Tensor<2>> = inputs.iter().map(|input| input.clone().inner()).collect();
    let mut y = matmul(plain[0].clone(), plain[1].clone().transpose());
    if let Some(bias) = plain.get(2) {
        y = y + bias.clone().cast(dtype);
    }
    // Not left to autodiff: it would give the weight's gradient transposed, and so by copies all over.
    custom_backward(y, inputs, move |gradient: Tensor<2>| {
        let grad = |at: usize| match at {
            0 => matmul(gradient.clone(), plain[1].clone()),
            1 => matmul(gradient.clone().transpose(), plain[0].clone()),
            _ => between.row_sums(gradient.clone()),
        };
        Grads::of((0..types.len()).map(|at| wanted[at].then(|| grad(at).cast(types[at]))))
    })
}
