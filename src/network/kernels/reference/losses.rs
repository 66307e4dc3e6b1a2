//! Cross-entropies of rows of logits, and their gradients.

use burn::tensor::{DType, IndexingUpdateOp, Tensor};

use crate::network::kernels::blocked::LossRows;

/// See [`crate::network::kernels::blocked::Between::losses`].
pub(super) fn losses(
    logits: Tensor<2>,
    bias: Option<&Tensor<2>>,
    rows: LossRows,
    wanted: bool,
) -> (Tensor<2>, Option<Tensor<2>>) {
    let LossRows { targets, weights, scale, gaps, smoothing } = rows;
    let classes = logits.dims()[1];
    let mut logits = logits.cast(DType::F32);
    if let Some(bias) = bias {
        logits = logits + bias.clone().cast(DType::F32);
    }
    let logits = logits.clone() - logits.max_dim(1);
    let total = logits.clone().exp().sum_dim(1).log();
    let mut gain = logits.clone().gather(1, targets.clone()) - total.clone();
    if smoothing > 0.0 {
        let even = logits.clone().mean_dim(1) - total.clone();
        gain = gain.mul_scalar(1.0 - smoothing) + even.mul_scalar(smoothing);
    }
    let mut losses = gain * weights.clone();
    if gaps {
        // A weight of 0 stands for a row to leave out, whatever is in it.
        losses = losses.mask_fill(weights.clone().equal_elem(0.0), 0.0);
    }
    let losses = losses.neg();
    if !wanted {
        return (losses, None);
    }
    let shares = weights.mul_scalar(scale);
    let mut grads = (logits - total).exp() * shares.clone();
    if smoothing > 0.0 {
        grads = grads - shares.clone().mul_scalar(smoothing / classes as f32);
    }
    let grads = grads.scatter(1, targets, shares.mul_scalar(smoothing - 1.0), IndexingUpdateOp::Add);
    (losses, Some(grads))
}
