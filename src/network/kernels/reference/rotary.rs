//! Rotary position embedding by slices.

use burn::tensor::{DType, Tensor};

use crate::network::kernels::{
    Rotary, RotaryPairs, Rotation,
    custom_backward::{Grads, custom_backward},
};

/// See [`crate::network::kernels::rotary`]. The gradient is rotated back by the same angles.
pub fn rotary(x: Tensor<2>, heads: usize, rotary: &Rotary) -> Tensor<2> {
    let y = rotated(x.clone().inner(), heads, rotary, false);
    let rotary = rotary.clone();
    custom_backward(y, vec![x], move |gradient: Tensor<2>| Grads::of([Some(rotated(gradient, heads, &rotary, true))]))
}

fn rotated(x: Tensor<2>, heads: usize, rotary: &Rotary, back: bool) -> Tensor<2> {
    let [tokens, width] = x.dims();
    let dtype = x.dtype();
    let Rotation { pairs, layout, offset, .. } = rotary.rotation;
    let size = width / heads;
    let end = offset + 2 * pairs;
    let x = x.reshape([tokens, heads, size]);
    let [cos, sin] = rotary.tensors(&x.device());
    let sin = if back { sin.neg() } else { sin };
    let (shape, axis) = match layout {
        RotaryPairs::Interleaved => ([tokens, heads, pairs, 2], 3),
        RotaryPairs::Halves => ([tokens, heads, 2, pairs], 2),
    };
    let mut single = shape;
    (single[1], single[axis]) = (1, 1);
    let (cos, sin) = (cos.reshape(single), sin.reshape(single));
    let rotated = x.clone().narrow(2, offset, 2 * pairs).reshape(shape).cast(DType::F32);
    let (a, b) = (rotated.clone().narrow(axis, 0, 1), rotated.narrow(axis, 1, 1));
    let rotated = vec![a.clone() * cos.clone() - b.clone() * sin.clone(), b * cos + a * sin];
    let rotated = Tensor::cat(rotated, axis).reshape([tokens, heads, 2 * pairs]).cast(dtype);
    let parts = [(0, offset, None), (offset, 2 * pairs, Some(rotated)), (end, size - end, None)];
    let parts = parts.into_iter().filter(|(_, length, _)| *length > 0);
    let parts = parts.map(|(start, length, part)| part.unwrap_or_else(|| x.clone().narrow(2, start, length)));
    Tensor::cat(parts.collect(), 2).reshape([tokens, width])
}
