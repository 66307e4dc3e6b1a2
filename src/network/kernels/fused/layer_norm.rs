//! Layer normalization.

use burn::backend::flex::FlexTensor;

use super::{
    buffer::{room, tensor, vector},
    kernel::{Kernel, elements, shape},
    rows,
};
use crate::network::kernels::simd::{simd, sum, sum2};

/// See [`crate::network::kernels::layer_norm`].
#[derive(Clone, Debug)]
pub(super) struct LayerNorm {
    pub(super) eps: f32,
}

impl Kernel<3> for LayerNorm {
    /// The rows and gamma.
    type Saved = [FlexTensor; 2];

    fn forward(&self, [x, gamma, beta]: [FlexTensor; 3], _: [bool; 3]) -> (FlexTensor, Self::Saved) {
        let [tokens, width] = shape(&x);
        let mut out = room(tokens * width);
        let (all, scale, shift) = (elements(&x), elements(&gamma), elements(&beta));
        rows::for_each(&mut out, width, |first, part| {
            normalize(&all[first * width..][..part.len()], scale, shift, self.eps, part);
        });
        (tensor(out, [tokens, width]), [x, gamma])
    }

    fn backward(&self, [x, gamma]: Self::Saved, gradient: FlexTensor, _: [bool; 3]) -> [Option<FlexTensor>; 3] {
        let [tokens, width] = shape(&x);
        let mut out = room(tokens * width);
        let (all, scale, gradient) = (elements(&x), elements(&gamma), elements(&gradient));
        let mut sums = rows::for_each_with_sums(&mut out, width, 2 * width, |first, part, sums| {
            let (d_gamma, d_beta) = sums.split_at_mut(width);
            let span = first * width..first * width + part.len();
            grads(&all[span.clone()], &gradient[span], scale, self.eps, part, d_gamma, d_beta);
        });
        let d_beta = sums.split_off(width);
        [Some(tensor(out, [tokens, width])), Some(vector(sums)), Some(vector(d_beta))]
    }
}

/// Mean and 1 / standard deviation.
#[inline(always)]
fn moments(row: &[f32], eps: f32) -> (f32, f32) {
    let n = row.len() as f32;
    let mean = sum(row, |x| x) / n;
    let variance = sum(row, |x| (x - mean) * (x - mean)) / n;
    (mean, 1.0 / (variance + eps).sqrt())
}

simd! {
    fn normalize(rows: &[f32], gamma: &[f32], beta: &[f32], eps: f32, out: &mut [f32]) {
        let width = gamma.len();
        for (row, out) in rows.chunks_exact(width).zip(out.chunks_exact_mut(width)) {
            let (mean, scale) = moments(row, eps);
            for (((out, x), g), b) in out.iter_mut().zip(row).zip(gamma).zip(beta) {
                *out = (x - mean) * scale * g + b;
            }
        }
    }
}

simd! {
    fn grads(
        rows: &[f32],
        gradient: &[f32],
        gamma: &[f32],
        eps: f32,
        out: &mut [f32],
        d_gamma: &mut [f32],
        d_beta: &mut [f32],
    ) {
        let width = gamma.len();
        let n = width as f32;
        let rows = rows.chunks_exact(width).zip(gradient.chunks_exact(width)).zip(out.chunks_exact_mut(width));
        for ((row, gradient), out) in rows {
            let (mean, scale) = moments(row, eps);
            // With x̂ the normalized row and g the gradient of it: (g - mean(g) - x̂ mean(g x̂)) / σ.
            for (((((out, x), d), g), d_gamma), d_beta) in
                out.iter_mut().zip(row).zip(gradient).zip(gamma).zip(d_gamma.iter_mut()).zip(d_beta.iter_mut())
            {
                *d_gamma += d * ((x - mean) * scale);
                *d_beta += d;
                *out = d * g;
            }
            let mean_grad = sum(out, |g| g) / n;
            let along = sum2(out, row, |g, x| g * ((x - mean) * scale)) / n;
            for (out, x) in out.iter_mut().zip(row) {
                *out = (*out - mean_grad - (x - mean) * scale * along) * scale;
            }
        }
    }
}
