//! Rotary position embedding: a unit of the device for each number.

use burn::{
    backend::{Dispatch, TensorMetadata},
    tensor::Tensor,
};
use burn_cubecl::{
    cubecl::{self, prelude::*},
    tensor::CubeTensor,
};

use super::{
    launch::{Rows, elementwise, kind},
    ops::Ops,
};
use crate::network::kernels::{Pairs, Rotary, Rotation};

/// Which elements of each head are rotated.
#[derive(Clone, Copy, Debug)]
pub(super) struct HeadRotation {
    /// Numbers of a head.
    size: usize,
    /// The first that is rotated.
    offset: usize,
    pairs: usize,
    interleaved: bool,
    /// Turns the other way.
    back: bool,
}

/// `x [T, heads * size]` rotated by its tokens' angles, or back by them. Not for autodiff.
pub(in crate::network::kernels) fn rotary(x: Tensor<2>, heads: usize, rotary: &Rotary, back: bool) -> Tensor<2> {
    let Rotation { pairs, layout, offset, .. } = rotary.rotation;
    let rotation =
        HeadRotation { size: x.dims()[1] / heads, offset, pairs, interleaved: layout == Pairs::Interleaved, back };
    let [cos, sin] = rotary.tensors(&x.device()).map(Tensor::into_dispatch);
    Tensor::from_dispatch(Dispatch::rotate(x.into_dispatch(), cos, sin, rotation))
}

#[cube(launch)]
fn rotary_kernel<F: Float>(
    x: &[F],
    cos: &[f32],
    sin: &[f32],
    out: &mut [F],
    count: usize,
    width: usize,
    size: usize,
    offset: usize,
    pairs: usize,
    #[comptime] interleaved: bool,
    #[comptime] back: bool,
    #[define(F)] _numbers: ElemType,
) {
    if ABSOLUTE_POS >= count {
        terminate!();
    }
    let at = ABSOLUTE_POS % size;
    let end = offset + 2 * pairs;
    if at < offset || at >= end {
        out[ABSOLUTE_POS] = x[ABSOLUTE_POS];
    } else {
        let at = at - offset;
        let first = if interleaved { at % 2 < 1 } else { at < pairs };
        let pair = if interleaved { at / 2 } else { at % pairs };
        let mut away = pairs;
        if interleaved {
            away = 1;
        }
        let other = select(first, ABSOLUTE_POS + away, ABSOLUTE_POS - away);
        let angle = ABSOLUTE_POS / width * pairs + pair;
        let mut rotated = f32::cast_from(x[other]) * sin[angle];
        if back {
            rotated = 0f32 - rotated;
        }
        let rotated = select(first, 0f32 - rotated, rotated);
        out[ABSOLUTE_POS] = F::cast_from(f32::cast_from(x[ABSOLUTE_POS]) * cos[angle] + rotated);
    }
}

/// `rotate` on the device.
pub(super) fn rotate(x: CubeTensor, cos: CubeTensor, sin: CubeTensor, rotation: HeadRotation) -> CubeTensor {
    let x = Rows::new(x);
    let out = x.room(x.tensor.shape(), x.tensor.dtype);
    let (client, numbers, count) = (x.client(), kind(x.tensor.dtype), x.rows * x.width);
    let (cubes, dim) = elementwise(&client, count);
    rotary_kernel::launch(
        &client,
        cubes,
        dim,
        x.tensor.into_buffer_arg(),
        Rows::new(cos).tensor.into_buffer_arg(),
        Rows::new(sin).tensor.into_buffer_arg(),
        out.clone().into_buffer_arg(),
        count,
        x.width,
        rotation.size,
        rotation.offset,
        rotation.pairs,
        rotation.interleaved,
        rotation.back,
        numbers,
    );
    out
}
