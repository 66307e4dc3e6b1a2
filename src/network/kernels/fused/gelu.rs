//! Gaussian error linear unit, with or without a bias before it.

use burn::backend::flex::FlexTensor;

use super::{
    buffer::{owned, room, tensor, vector},
    kernel::{Kernel, elements, shape},
    math::{gelu_erf, gelu_tanh},
    rows,
};

use crate::network::kernels::{Gelu, simd::simd};

/// See [`crate::network::kernels::gelu`] and [`crate::network::kernels::bias_gelu`].
#[derive(Clone, Debug)]
pub(super) struct GeluKernel(pub(super) Gelu);

impl GeluKernel {
    fn run(&self, x: &FlexTensor, bias: Option<&FlexTensor>) -> FlexTensor {
        let [tokens, width] = shape(x);
        let mut out = room(tokens * width);
        let (all, bias) = (elements(x), bias.map(elements));
        rows::for_each(&mut out, width, |first, part| {
            let x = &all[first * width..][..part.len()];
            match self.0 {
                Gelu::Erf => erf(x, bias, width, part),
                Gelu::Tanh => tanh(x, bias, width, part),
            }
        });
        tensor(out, [tokens, width])
    }

    /// The gradient of `x`, and that of the bias if there is one.
    fn grads(&self, x: &FlexTensor, bias: Option<&FlexTensor>, gradient: FlexTensor) -> (FlexTensor, Vec<f32>) {
        let [_, width] = shape(x);
        let mut grads = owned(gradient);
        let (all, bias) = (elements(x), bias.map(elements));
        let sums = if bias.is_some() { width } else { 0 };
        let sums = rows::for_each_with_sums(grads.storage_mut(), width, sums, |first, part, sums| {
            let x = &all[first * width..][..part.len()];
            match self.0 {
                Gelu::Erf => erf_grads(x, bias, width, part),
                Gelu::Tanh => tanh_grads(x, bias, width, part),
            }
            if bias.is_some() {
                part.chunks_exact(width).for_each(|row| rows::add(sums, row));
            }
        });
        (grads, sums)
    }
}

/// Applies `f` to each element plus its bias and, where there is one, to what is in its place.
#[inline(always)]
fn each(x: &[f32], bias: Option<&[f32]>, width: usize, out: &mut [f32], f: impl Fn(f32, f32) -> f32) {
    match bias {
        Some(bias) => {
            for (x, out) in x.chunks_exact(width).zip(out.chunks_exact_mut(width)) {
                for ((out, x), b) in out.iter_mut().zip(x).zip(bias) {
                    *out = f(x + b, *out);
                }
            }
        }
        None => {
            for (out, x) in out.iter_mut().zip(x) {
                *out = f(*x, *out);
            }
        }
    }
}

simd! {
    fn erf(x: &[f32], bias: Option<&[f32]>, width: usize, out: &mut [f32]) {
        each(x, bias, width, out, |x, _| gelu_erf(x).0);
    }
}

simd! {
    fn tanh(x: &[f32], bias: Option<&[f32]>, width: usize, out: &mut [f32]) {
        each(x, bias, width, out, |x, _| gelu_tanh(x).0);
    }
}

simd! {
    fn erf_grads(x: &[f32], bias: Option<&[f32]>, width: usize, gradient: &mut [f32]) {
        each(x, bias, width, gradient, |x, d| d * gelu_erf(x).1);
    }
}

simd! {
    fn tanh_grads(x: &[f32], bias: Option<&[f32]>, width: usize, gradient: &mut [f32]) {
        each(x, bias, width, gradient, |x, d| d * gelu_tanh(x).1);
    }
}

impl Kernel<1> for GeluKernel {
    type Saved = FlexTensor;

    fn forward(&self, [x]: [FlexTensor; 1], _: [bool; 1]) -> (FlexTensor, FlexTensor) {
        (self.run(&x, None), x)
    }

    fn backward(&self, x: FlexTensor, gradient: FlexTensor, _: [bool; 1]) -> [Option<FlexTensor>; 1] {
        [Some(self.grads(&x, None, gradient).0)]
    }
}

impl Kernel<2> for GeluKernel {
    type Saved = [FlexTensor; 2];

    fn forward(&self, [x, bias]: [FlexTensor; 2], _: [bool; 2]) -> (FlexTensor, Self::Saved) {
        (self.run(&x, Some(&bias)), [x, bias])
    }

    fn backward(&self, [x, bias]: Self::Saved, gradient: FlexTensor, _: [bool; 2]) -> [Option<FlexTensor>; 2] {
        let (grads, sums) = self.grads(&x, Some(&bias), gradient);
        [Some(grads), Some(vector(sums))]
    }
}
