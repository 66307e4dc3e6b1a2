//! Logarithms of a softmax over each row: a cube for each row.

use burn::{
    backend::{Backend, Dispatch, TensorMetadata, backend_extension, tensor::FloatTensor},
    tensor::Tensor,
};
use burn_cubecl::{
    CubeBackend,
    cubecl::{self, prelude::*},
    tensor::CubeTensor,
};

use super::{
    launch::{Grid, Rows, kind},
    math::{exp, ln},
    rows::{largest, most, sum, total},
};
use crate::network::kernels::custom_backward::{Grads, custom_backward};

/// See [`crate::network::kernels::log_softmax`].
pub(super) fn log_softmax(x: Tensor<2>) -> Tensor<2> {
    let y = Tensor::<2>::from_dispatch(Dispatch::log_softmax(x.clone().inner().into_dispatch()));
    custom_backward(y.clone(), vec![x], move |gradient: Tensor<2>| {
        let grads = Dispatch::log_softmax_grads(y.into_dispatch(), gradient.into_dispatch());
        Grads::of([Some(Tensor::<2>::from_dispatch(grads))])
    })
}

#[cube(launch)]
fn log_softmax_kernel<F: Float, N: Size>(
    x: &[Vector<F, N>],
    out: &mut [Vector<F, N>],
    rows: usize,
    width: usize,
    #[comptime] planes: u32,
    #[define(F)] _numbers: ElemType,
) {
    if CUBE_POS >= rows {
        terminate!();
    }
    let start = CUBE_POS * width;
    let mut highest = Vector::<f32, N>::new(-1e30f32);
    let mut at = UNIT_POS as usize;
    while at < width {
        highest = highest.max(Vector::<f32, N>::cast_from(x[start + at]));
        at += CUBE_DIM as usize;
    }
    let most = most(largest(highest), planes);
    let mut sums = Vector::<f32, N>::new(0f32);
    let mut at = UNIT_POS as usize;
    while at < width {
        sums += exp(Vector::<f32, N>::cast_from(x[start + at]) - Vector::<f32, N>::new(most));
        at += CUBE_DIM as usize;
    }
    let level = Vector::<f32, N>::new(most) + ln(Vector::<f32, N>::new(sum(total(sums), planes)));
    let mut at = UNIT_POS as usize;
    while at < width {
        out[start + at] = Vector::<F, N>::cast_from(Vector::<f32, N>::cast_from(x[start + at]) - level);
        at += CUBE_DIM as usize;
    }
}

/// With y the result and g its gradient: g - e^y Σ g.
#[cube(launch)]
fn log_softmax_grads_kernel<F: Float, N: Size>(
    y: &[Vector<F, N>],
    grads: &mut [Vector<F, N>],
    rows: usize,
    width: usize,
    #[comptime] planes: u32,
    #[define(F)] _numbers: ElemType,
) {
    if CUBE_POS >= rows {
        terminate!();
    }
    let start = CUBE_POS * width;
    let mut sums = Vector::<f32, N>::new(0f32);
    let mut at = UNIT_POS as usize;
    while at < width {
        sums += Vector::<f32, N>::cast_from(grads[start + at]);
        at += CUBE_DIM as usize;
    }
    let all = Vector::<f32, N>::new(sum(total(sums), planes));
    let mut at = UNIT_POS as usize;
    while at < width {
        let grad = Vector::<f32, N>::cast_from(grads[start + at]);
        let share = exp(Vector::<f32, N>::cast_from(y[start + at])) * all;
        grads[start + at] = Vector::<F, N>::cast_from(grad - share);
        at += CUBE_DIM as usize;
    }
}

/// `log_softmax` on the device.
fn log_softmax_rows(x: CubeTensor) -> CubeTensor {
    let x = Rows::new(x);
    let out = x.room(x.tensor.shape(), x.tensor.dtype);
    let Grid { count, dim, planes, vector, width, .. } = x.grid();
    let dtype = kind(x.tensor.dtype);
    log_softmax_kernel::launch(
        &x.client(),
        count,
        dim,
        vector,
        x.tensor.into_buffer_arg(),
        out.clone().into_buffer_arg(),
        x.rows,
        width,
        planes,
        dtype,
    );
    out
}

/// `log_softmax_grads` on the device.
fn log_softmax_grads(y: CubeTensor, gradient: CubeTensor) -> CubeTensor {
    let (y, grads) = (Rows::new(y), Rows::owned(gradient).tensor);
    let Grid { count, dim, planes, vector, width, .. } = y.grid();
    let dtype = kind(y.tensor.dtype);
    log_softmax_grads_kernel::launch(
        &y.client(),
        count,
        dim,
        vector,
        y.tensor.into_buffer_arg(),
        grads.clone().into_buffer_arg(),
        y.rows,
        width,
        planes,
        dtype,
    );
    grads
}

/// What enters burn's dispatch; nothing of it is differentiated.
#[backend_extension(Cube, Fusion)]
trait LogSoftmaxOps: Backend {
    /// Logarithms of a softmax over each row of `x [N, C]`.
    #[fusion(dtype = x, shape = x)]
    fn log_softmax(x: FloatTensor<Self>) -> FloatTensor<Self>;

    /// The gradient of `x` from the result `y` and its gradient.
    #[fusion(dtype = gradient, shape = gradient)]
    fn log_softmax_grads(y: FloatTensor<Self>, gradient: FloatTensor<Self>) -> FloatTensor<Self>;
}

impl LogSoftmaxOps for CubeBackend {
    fn log_softmax(x: CubeTensor) -> CubeTensor {
        log_softmax_rows(x)
    }

    fn log_softmax_grads(y: CubeTensor, gradient: CubeTensor) -> CubeTensor {
        log_softmax_grads(y, gradient)
    }
}
