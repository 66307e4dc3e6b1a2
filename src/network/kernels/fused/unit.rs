//! Activations that only portable mode has kernels for.

use burn::backend::flex::FlexTensor;

use super::{
    buffer::{owned, room, tensor},
    kernel::{Kernel, elements, shape},
    math::sigmoid,
    rows,
};
use crate::network::kernels::simd::simd;

/// See [`crate::network::kernels::silu`] and [`crate::network::kernels::tanh`].
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Unit {
    Silu,
    Tanh,
}

/// `tanh x`, within a few 1e-7.
#[inline(always)]
fn tanh(x: f32) -> f32 {
    2.0 * sigmoid(2.0 * x) - 1.0
}

simd! {
    fn apply(unit: Unit, x: &[f32], out: &mut [f32]) {
        match unit {
            Unit::Silu => out.iter_mut().zip(x).for_each(|(out, x)| *out = x * sigmoid(*x)),
            Unit::Tanh => out.iter_mut().zip(x).for_each(|(out, x)| *out = tanh(*x)),
        }
    }
}

simd! {
    /// Multiplies gradients by the derivative at `x`.
    fn differentiate(unit: Unit, x: &[f32], gradient: &mut [f32]) {
        match unit {
            Unit::Silu => gradient.iter_mut().zip(x).for_each(|(gradient, x)| {
                let open = sigmoid(*x);
                *gradient *= open * (1.0 + x * (1.0 - open));
            }),
            Unit::Tanh => gradient.iter_mut().zip(x).for_each(|(gradient, x)| {
                let y = tanh(*x);
                *gradient *= 1.0 - y * y;
            }),
        }
    }
}

impl Kernel<1> for Unit {
    type Saved = FlexTensor;

    fn forward(&self, [x]: [FlexTensor; 1], _: [bool; 1]) -> (FlexTensor, FlexTensor) {
        let [tokens, width] = shape(&x);
        let mut out = room(tokens * width);
        let all = elements(&x);
        rows::for_each(&mut out, width, |first, part| apply(*self, &all[first * width..][..part.len()], part));
        (tensor(out, [tokens, width]), x)
    }

    fn backward(&self, x: FlexTensor, gradient: FlexTensor, _: [bool; 1]) -> [Option<FlexTensor>; 1] {
        let [_, width] = shape(&x);
        let mut grads = owned(gradient);
        let all = elements(&x);
        rows::for_each(grads.storage_mut(), width, |first, part| {
            differentiate(*self, &all[first * width..][..part.len()], part);
        });
        [Some(grads)]
    }
}
