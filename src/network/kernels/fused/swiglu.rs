//! Gated unit.

use burn::backend::flex::FlexTensor;

use super::{
    buffer::{room, tensor},
    kernel::{Kernel, elements, shape},
    math::sigmoid,
    rows,
};
use crate::network::kernels::simd::simd;

/// See [`crate::network::kernels::swiglu`].
#[derive(Clone, Debug)]
pub(super) struct SwiGlu;

impl Kernel<1> for SwiGlu {
    type Saved = FlexTensor;

    fn forward(&self, [x]: [FlexTensor; 1], _: [bool; 1]) -> (FlexTensor, FlexTensor) {
        let [tokens, width] = shape(&x);
        let inner = width / 2;
        let mut out = room(tokens * inner);
        let all = elements(&x);
        rows::for_each(&mut out, inner, |first, part| gate(&all[first * width..][..2 * part.len()], inner, part));
        (tensor(out, [tokens, inner]), x)
    }

    fn backward(&self, x: FlexTensor, gradient: FlexTensor, _: [bool; 1]) -> [Option<FlexTensor>; 1] {
        let [tokens, width] = shape(&x);
        let mut out = room(tokens * width);
        let (all, gradient) = (elements(&x), elements(&gradient));
        rows::for_each(&mut out, width, |first, part| {
            let gradient = &gradient[first * (width / 2)..][..part.len() / 2];
            grads(&all[first * width..][..part.len()], gradient, width / 2, part);
        });
        [Some(tensor(out, [tokens, width]))]
    }
}

simd! {
    fn gate(x: &[f32], inner: usize, out: &mut [f32]) {
        for (x, out) in x.chunks_exact(2 * inner).zip(out.chunks_exact_mut(inner)) {
            let (gate, rest) = x.split_at(inner);
            for ((out, g), x) in out.iter_mut().zip(gate).zip(rest) {
                *out = g * sigmoid(*g) * x;
            }
        }
    }
}

simd! {
    fn grads(x: &[f32], gradient: &[f32], inner: usize, out: &mut [f32]) {
        let rows = x.chunks_exact(2 * inner).zip(gradient.chunks_exact(inner)).zip(out.chunks_exact_mut(2 * inner));
        for ((x, gradient), out) in rows {
            let ((gate, rest), (d_gate, d_rest)) = (x.split_at(inner), out.split_at_mut(inner));
            for ((((d_gate, d_rest), g), x), d) in d_gate.iter_mut().zip(d_rest).zip(gate).zip(rest).zip(gradient) {
                let s = sigmoid(*g);
                *d_gate = d * x * s * (1.0 + g * (1.0 - s));
                *d_rest = d * (g * s);
            }
        }
    }
}
