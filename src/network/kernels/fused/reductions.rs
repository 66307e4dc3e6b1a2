//! Reductions that only portable mode has kernels for.

use burn::backend::flex::FlexTensor;

use super::{
    buffer::{owned, room, tensor, vector},
    kernel::{Kernel, elements, shape},
    math::exp,
    rows,
};
use crate::{
    network::kernels::simd::{max, simd, sum},
    support::math,
};

/// See [`crate::network::kernels::log_softmax`].
#[derive(Clone, Debug)]
pub(super) struct LogSoftmax;

simd! {
    fn log_softmax(rows: &[f32], width: usize, out: &mut [f32]) {
        for (row, out) in rows.chunks_exact(width).zip(out.chunks_exact_mut(width)) {
            let top = max(row);
            let log_total = math::ln_f32(sum(row, |x| exp(x - top)));
            out.iter_mut().zip(row).for_each(|(out, x)| *out = x - top - log_total);
        }
    }
}

simd! {
    /// With g the gradient of the result y: g - e^y Σ g.
    fn log_softmax_grads(y: &[f32], width: usize, gradient: &mut [f32]) {
        for (y, gradient) in y.chunks_exact(width).zip(gradient.chunks_exact_mut(width)) {
            let total = sum(gradient, |g| g);
            gradient.iter_mut().zip(y).for_each(|(g, y)| *g -= exp(*y) * total);
        }
    }
}

impl Kernel<1> for LogSoftmax {
    /// The result.
    type Saved = FlexTensor;

    fn forward(&self, [x]: [FlexTensor; 1], _: [bool; 1]) -> (FlexTensor, FlexTensor) {
        let [tokens, width] = shape(&x);
        let mut out = room(tokens * width);
        let all = elements(&x);
        rows::for_each(&mut out, width, |first, part| log_softmax(&all[first * width..][..part.len()], width, part));
        let out = tensor(out, [tokens, width]);
        (out.clone(), out)
    }

    fn backward(&self, y: FlexTensor, gradient: FlexTensor, _: [bool; 1]) -> [Option<FlexTensor>; 1] {
        let [_, width] = shape(&y);
        let mut grads = owned(gradient);
        let all = elements(&y);
        rows::for_each(grads.storage_mut(), width, |first, part| {
            log_softmax_grads(&all[first * width..][..part.len()], width, part);
        });
        [Some(grads)]
    }
}

/// See [`crate::network::kernels::sum`].
#[derive(Clone, Debug)]
pub(super) struct Sum;

simd! {
    fn total(all: &[f32]) -> f32 {
        sum(all, |x| x)
    }
}

impl Kernel<1> for Sum {
    /// Rows and columns.
    type Saved = [usize; 2];

    fn forward(&self, [x]: [FlexTensor; 1], _: [bool; 1]) -> (FlexTensor, [usize; 2]) {
        (vector(vec![total(elements(&x))]), shape(&x))
    }

    fn backward(&self, [rows, columns]: [usize; 2], gradient: FlexTensor, _: [bool; 1]) -> [Option<FlexTensor>; 1] {
        let mut grads = room(rows * columns);
        grads.fill(elements(&gradient)[0]);
        [Some(tensor(grads, [rows, columns]))]
    }
}
