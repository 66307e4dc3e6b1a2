//! Rotary position embedding: a unit of the device for each element.

use burn::{
    backend::{Backend, Dispatch, TensorMetadata, backend_extension, tensor::FloatTensor},
    tensor::Tensor,
};
use burn_cubecl::{
    CubeBackend,
    cubecl::{self, prelude::*},
    tensor::CubeTensor,
};

use super::launch::{Rows, elementwise, kind};
use crate::network::kernels::{
    Rotary, RotaryPairs, Rotation,
    custom_backward::{Grads, custom_backward},
};

/// Which elements of each head are rotated.
#[derive(Clone, Copy, Debug)]
pub(super) struct HeadRotation {
    /// Elements of a head.
    size: usize,
    /// The first that is rotated.
    offset: usize,
    pairs: usize,
    interleaved: bool,
    /// Turns the other way.
    back: bool,
}

/// See [`crate::network::kernels::rotary`]. The gradient is rotated back by the same angles.
pub(super) fn rotary(x: Tensor<2>, heads: usize, rotary: &Rotary) -> Tensor<2> {
    let y = rotated(x.clone().inner(), heads, rotary, false);
    let rotary = rotary.clone();
    custom_backward(y, vec![x], move |gradient: Tensor<2>| Grads::of([Some(rotated(gradient, heads, &rotary, true))]))
}

fn rotated(x: Tensor<2>, heads: usize, rotary: &Rotary, back: bool) -> Tensor<2> {
    let Rotation { pairs, layout, offset, .. } = rotary.rotation;
    let rotation = HeadRotation {
        size: x.dims()[1] / heads,
        offset,
        pairs,
        interleaved: layout == RotaryPairs::Interleaved,
        back,
    };
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
fn rotate(x: CubeTensor, cos: CubeTensor, sin: CubeTensor, rotation: HeadRotation) -> CubeTensor {
    let x = Rows::new(x);
    let out = x.room(x.tensor.shape(), x.tensor.dtype);
    let (client, dtype, count) = (x.client(), kind(x.tensor.dtype), x.rows * x.width);
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
        dtype,
    );
    out
}

/// What enters burn's dispatch; nothing of it is differentiated.
#[backend_extension(Cube, Fusion)]
trait RotaryOps: Backend {
    /// Pairs of elements of each head of `x` rotated by cosines and sines `[T, pairs]`.
    #[fusion(dtype = x, shape = x)]
    fn rotate(
        x: FloatTensor<Self>,
        cos: FloatTensor<Self>,
        sin: FloatTensor<Self>,
        rotation: HeadRotation,
    ) -> FloatTensor<Self>;
}

impl RotaryOps for CubeBackend {
    fn rotate(x: CubeTensor, cos: CubeTensor, sin: CubeTensor, rotation: HeadRotation) -> CubeTensor {
        rotate(x, cos, sin, rotation)
    }
}
