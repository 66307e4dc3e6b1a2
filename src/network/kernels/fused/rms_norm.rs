//! Root mean square normalization.

use burn::backend::flex::FlexTensor;

use super::{
    buffer::{room, tensor, vector},
    kernel::{Kernel, elements, shape},
    rows,
};
use crate::network::kernels::simd::{simd, sum, sum2};

/// See [`crate::network::kernels::rms_norm`].
#[derive(Clone, Debug)]
pub(super) struct RmsNorm {
    pub(super) eps: f32,
}

impl Kernel<2> for RmsNorm {
    /// The rows and gamma.
    type Saved = [FlexTensor; 2];

    fn forward(&self, [x, gamma]: [FlexTensor; 2], _: [bool; 2]) -> (FlexTensor, Self::Saved) {
        let [tokens, width] = shape(&x);
        let mut out = room(tokens * width);
        let (all, gains) = (elements(&x), elements(&gamma));
        rows::for_each(&mut out, width, |first, part| {
            normalize(&all[first * width..][..part.len()], gains, self.eps, part);
        });
        (tensor(out, [tokens, width]), [x, gamma])
    }

    fn backward(&self, [x, gamma]: Self::Saved, gradient: FlexTensor, _: [bool; 2]) -> [Option<FlexTensor>; 2] {
        let [tokens, width] = shape(&x);
        let mut out = room(tokens * width);
        let (all, gains, gradient) = (elements(&x), elements(&gamma), elements(&gradient));
        let d_gamma = rows::for_each_with_sums(&mut out, width, width, |first, part, d_gamma| {
            let span = first * width..first * width + part.len();
            grads(&all[span.clone()], &gradient[span], gains, self.eps, part, d_gamma);
        });
        [Some(tensor(out, [tokens, width])), Some(vector(d_gamma))]
    }
}

/// 1 / root mean square.
#[inline(always)]
fn scale(row: &[f32], eps: f32) -> f32 {
    1.0 / (sum(row, |x| x * x) / row.len() as f32 + eps).sqrt()
}

simd! {
    fn normalize(rows: &[f32], gamma: &[f32], eps: f32, out: &mut [f32]) {
        let width = gamma.len();
        for (row, out) in rows.chunks_exact(width).zip(out.chunks_exact_mut(width)) {
            let scale = scale(row, eps);
            for ((out, x), g) in out.iter_mut().zip(row).zip(gamma) {
                *out = x * scale * g;
            }
        }
    }
}

simd! {
    fn grads(rows: &[f32], gradient: &[f32], gamma: &[f32], eps: f32, out: &mut [f32], d_gamma: &mut [f32]) {
        let width = gamma.len();
        let rows = rows.chunks_exact(width).zip(gradient.chunks_exact(width)).zip(out.chunks_exact_mut(width));
        for ((row, gradient), out) in rows {
            let scale = scale(row, eps);
            // With x̂ the normalized row and g the gradient of it: (g - x̂ mean(g x̂)) / root mean square.
            for ((((out, x), d), g), d_gamma) in out.iter_mut().zip(row).zip(gradient).zip(gamma).zip(d_gamma.iter_mut())
            {
                *d_gamma += d * (x * scale);
                *out = d * g;
            }
            let along = sum2(out, row, |g, x| g * (x * scale)) / width as f32;
            for (out, x) in out.iter_mut().zip(row) {
                *out = (*out - x * scale * along) * scale;
            }
        }
    }
}
