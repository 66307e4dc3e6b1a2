//! Layer and root mean square normalization: a cube for each row.

use burn::{
    backend::{Backend, Dispatch, TensorMetadata, backend_extension, fusion::custom::TensorSpec, tensor::FloatTensor},
    tensor::{DType, Tensor},
};
use burn_cubecl::{
    CubeBackend,
    cubecl::{self, prelude::*},
    tensor::CubeTensor,
};

use super::{
    launch::{Grid, Rows, kind},
    maybe::Maybe,
    rows::{sum, total},
    sums::Parts,
};
use crate::network::kernels::custom_backward::{Grads, custom_backward};

/// See [`crate::network::kernels::layer_norm`].
pub(super) fn layer_norm(x: Tensor<2>, gamma: Tensor<1>, beta: Tensor<1>, eps: f32) -> Tensor<2> {
    normalized(x, gamma, Some(beta), eps)
}

/// See [`crate::network::kernels::rms_norm`].
pub(super) fn rms_norm(x: Tensor<2>, gamma: Tensor<1>, eps: f32) -> Tensor<2> {
    normalized(x, gamma, None, eps)
}

fn normalized(x: Tensor<2>, gamma: Tensor<1>, beta: Option<Tensor<1>>, eps: f32) -> Tensor<2> {
    let inputs: Vec<Tensor<2>> = [x, gamma.unsqueeze()].into_iter().chain(beta.map(Tensor::unsqueeze)).collect();
    let learned = inputs[1..].iter().any(Tensor::is_tracked);
    let types: Vec<DType> = inputs.iter().map(Tensor::dtype).collect();
    let [x, gamma] = [0, 1].map(|at| inputs[at].clone().inner());
    let gamma = gamma.cast(DType::F32);
    let beta = Maybe::new(inputs.get(2).map(|beta| beta.clone().inner().cast(DType::F32)));
    let y = Dispatch::normalize(x.clone().into_dispatch(), gamma.clone().into_dispatch(), beta, eps);
    let centred = inputs.len() > 2;
    custom_backward(Tensor::from_dispatch(y), inputs, move |gradient: Tensor<2>| {
        let [x, gamma, gradient] = [x, gamma, gradient].map(Tensor::into_dispatch);
        let (d_x, stats) = Dispatch::normalize_grads(x.clone(), gamma, gradient.clone(), eps, centred);
        let mut grads = vec![Some(Tensor::<2>::from_dispatch(d_x))];
        if learned {
            let sums = Tensor::<3>::from_dispatch(Dispatch::normalize_sums(x, gradient, stats, centred)).sum_dim(1);
            let part = |at: usize| sums.clone().narrow(0, at, 1).squeeze_dim::<2>(0);
            grads.extend((1..types.len()).map(|at| Some(part(at - 1).cast(types[at]))));
        }
        grads.resize(types.len(), None);
        Grads::of(grads)
    })
}

/// Mean of a row, or 0 where rows aren't centred.
#[cube]
fn mean<F: Float, N: Size>(
    x: &[Vector<F, N>],
    start: usize,
    width: usize,
    #[comptime] centred: bool,
    #[comptime] planes: u32,
) -> f32 {
    let mut mean = 0f32;
    if centred {
        let mut sums = Vector::<f32, N>::new(0f32);
        let mut at = UNIT_POS as usize;
        while at < width {
            sums += Vector::<f32, N>::cast_from(x[start + at]);
            at += CUBE_DIM as usize;
        }
        mean = sum(total(sums), planes) / f32::cast_from(width * N::value());
    }
    mean
}

/// 1 over the root of the row's mean square around `mean`.
#[cube]
fn scale<F: Float, N: Size>(
    x: &[Vector<F, N>],
    start: usize,
    width: usize,
    mean: f32,
    eps: f32,
    #[comptime] planes: u32,
) -> f32 {
    let mut sums = Vector::<f32, N>::new(0f32);
    let mut at = UNIT_POS as usize;
    while at < width {
        let away = Vector::<f32, N>::cast_from(x[start + at]) - Vector::<f32, N>::new(mean);
        sums += away * away;
        at += CUBE_DIM as usize;
    }
    let square = sum(total(sums), planes) / f32::cast_from(width * N::value());
    1f32 / (square + eps).sqrt()
}

/// Elements of a row with that mean and 1/σ, normalized.
#[cube]
fn normed<F: Float, N: Size>(x: Vector<F, N>, mean: f32, scale: f32) -> Vector<f32, N> {
    (Vector::<f32, N>::cast_from(x) - Vector::<f32, N>::new(mean)) * Vector::<f32, N>::new(scale)
}

#[cube(launch)]
fn normalize_kernel<F: Float, N: Size>(
    x: &[Vector<F, N>],
    gamma: &[Vector<f32, N>],
    beta: &[Vector<f32, N>],
    out: &mut [Vector<F, N>],
    rows: usize,
    width: usize,
    eps: f32,
    #[comptime] centred: bool,
    #[comptime] planes: u32,
    #[define(F)] _numbers: ElemType,
) {
    if CUBE_POS >= rows {
        terminate!();
    }
    let start = CUBE_POS * width;
    let mean = mean::<F, N>(x, start, width, centred, planes);
    let scale = scale::<F, N>(x, start, width, mean, eps, planes);
    let mut at = UNIT_POS as usize;
    while at < width {
        let mut y = normed::<F, N>(x[start + at], mean, scale) * gamma[at];
        if centred {
            y += beta[at];
        }
        out[start + at] = Vector::<F, N>::cast_from(y);
        at += CUBE_DIM as usize;
    }
}

/// With x̂ the normalized row and g the gradient of it: (g - mean(g) - x̂ mean(g x̂)) / σ, the first mean where rows are
/// centred. Leaves each row's mean and 1/σ in `stats`.
#[cube(launch)]
fn normalize_grads_kernel<F: Float, N: Size>(
    x: &[Vector<F, N>],
    gamma: &[Vector<f32, N>],
    gradient: &[Vector<F, N>],
    out: &mut [Vector<F, N>],
    stats: &mut [f32],
    rows: usize,
    width: usize,
    eps: f32,
    #[comptime] centred: bool,
    #[comptime] planes: u32,
    #[define(F)] _numbers: ElemType,
) {
    if CUBE_POS >= rows {
        terminate!();
    }
    let start = CUBE_POS * width;
    let mean = mean::<F, N>(x, start, width, centred, planes);
    let scale = scale::<F, N>(x, start, width, mean, eps, planes);
    let mut plain = Vector::<f32, N>::new(0f32);
    let mut along = Vector::<f32, N>::new(0f32);
    let mut at = UNIT_POS as usize;
    while at < width {
        let normed = normed::<F, N>(x[start + at], mean, scale);
        let grad = Vector::<f32, N>::cast_from(gradient[start + at]) * gamma[at];
        plain += grad;
        along += grad * normed;
        at += CUBE_DIM as usize;
    }
    let count = f32::cast_from(width * N::value());
    let mut shift = 0f32;
    if centred {
        shift = sum(total(plain), planes) / count;
    }
    let along = sum(total(along), planes) / count;
    let mut at = UNIT_POS as usize;
    while at < width {
        let normed = normed::<F, N>(x[start + at], mean, scale);
        let grad = Vector::<f32, N>::cast_from(gradient[start + at]) * gamma[at];
        let grad = grad - Vector::<f32, N>::new(shift) - normed * Vector::<f32, N>::new(along);
        out[start + at] = Vector::<F, N>::cast_from(grad * Vector::<f32, N>::new(scale));
        at += CUBE_DIM as usize;
    }
    if UNIT_POS == 0 {
        stats[2 * CUBE_POS] = mean;
        stats[2 * CUBE_POS + 1] = scale;
    }
}

/// Sums over some rows of the gradients of gamma and, where rows are centred, of beta: a unit for each vector of columns.
#[cube(launch)]
fn normalize_sums_kernel<F: Float, N: Size>(
    x: &[Vector<F, N>],
    gradient: &[Vector<F, N>],
    stats: &[f32],
    sums: &mut [Vector<f32, N>],
    rows: usize,
    width: usize,
    length: usize,
    #[comptime] centred: bool,
    #[define(F)] _numbers: ElemType,
) {
    let column = (CUBE_POS_X * CUBE_DIM + UNIT_POS) as usize;
    if column >= width {
        terminate!();
    }
    let part = CUBE_POS_Y as usize;
    let mut gains = Vector::<f32, N>::new(0f32);
    let mut shifts = Vector::<f32, N>::new(0f32);
    let mut row = part * length;
    let end = min(rows, row + length);
    while row < end {
        let place = row * width + column;
        let grad = Vector::<f32, N>::cast_from(gradient[place]);
        let away = Vector::<f32, N>::cast_from(x[place]) - Vector::<f32, N>::new(stats[2 * row]);
        gains += grad * away * Vector::<f32, N>::new(stats[2 * row + 1]);
        shifts += grad;
        row += 1;
    }
    sums[part * width + column] = gains;
    if centred {
        sums[(CUBE_COUNT_Y as usize + part) * width + column] = shifts;
    }
}

/// What `normalize_sums` gives.
fn sums(x: &TensorSpec, centred: bool) -> TensorSpec {
    let (rows, width) = (x.shape[0], x.shape[1]);
    TensorSpec::new([1 + usize::from(centred), Parts::new(rows, width).count, width].into(), DType::F32)
}

/// `normalize` on the device.
fn normalize(x: CubeTensor, gamma: CubeTensor, beta: Maybe<CubeBackend>, eps: f32) -> CubeTensor {
    let (x, gamma) = (Rows::new(x), Rows::new(gamma));
    let out = x.room(x.tensor.shape(), x.tensor.dtype);
    let Grid { count, dim, planes, vector, width, .. } = x.grid();
    let (beta, centred) = beta.or(&gamma.tensor);
    let dtype = kind(x.tensor.dtype);
    normalize_kernel::launch(
        &x.client(),
        count,
        dim,
        vector,
        x.tensor.into_buffer_arg(),
        gamma.tensor.into_buffer_arg(),
        Rows::new(beta).tensor.into_buffer_arg(),
        out.clone().into_buffer_arg(),
        x.rows,
        width,
        eps,
        centred,
        planes,
        dtype,
    );
    out
}

/// `normalize_grads` on the device.
fn normalize_grads(
    x: CubeTensor,
    gamma: CubeTensor,
    gradient: CubeTensor,
    eps: f32,
    centred: bool,
) -> (CubeTensor, CubeTensor) {
    let (x, gamma, gradient) = (Rows::new(x), Rows::new(gamma), Rows::new(gradient));
    let out = x.room(x.tensor.shape(), x.tensor.dtype);
    let stats = x.room([x.rows, 2], DType::F32);
    let Grid { count, dim, planes, vector, width, .. } = x.grid();
    let dtype = kind(x.tensor.dtype);
    normalize_grads_kernel::launch(
        &x.client(),
        count,
        dim,
        vector,
        x.tensor.into_buffer_arg(),
        gamma.tensor.into_buffer_arg(),
        gradient.tensor.into_buffer_arg(),
        out.clone().into_buffer_arg(),
        stats.clone().into_buffer_arg(),
        x.rows,
        width,
        eps,
        centred,
        planes,
        dtype,
    );
    (out, stats)
}

/// `normalize_sums` on the device.
fn normalize_sums(x: CubeTensor, gradient: CubeTensor, stats: CubeTensor, centred: bool) -> CubeTensor {
    let (x, gradient, stats) = (Rows::new(x), Rows::new(gradient), Rows::new(stats));
    let parts = Parts::new(x.rows, x.width);
    let sums = x.room([1 + usize::from(centred), parts.count, x.width], DType::F32);
    let dtype = kind(x.tensor.dtype);
    normalize_sums_kernel::launch(
        &x.client(),
        parts.cubes(),
        parts.dim(),
        parts.vector,
        x.tensor.into_buffer_arg(),
        gradient.tensor.into_buffer_arg(),
        stats.tensor.into_buffer_arg(),
        sums.clone().into_buffer_arg(),
        x.rows,
        parts.width,
        parts.length,
        centred,
        dtype,
    );
    sums
}

/// What enters burn's dispatch; nothing of it is differentiated.
#[backend_extension(Cube, Fusion)]
trait NormOps: Backend {
    /// Rows `x [T, H]` with their mean, where there is a `beta [H]`, at 0 and their standard deviation at 1, times
    /// `gamma [H]`.
    #[fusion(dtype = x, shape = x)]
    fn normalize(
        x: FloatTensor<Self>,
        gamma: FloatTensor<Self>,
        #[extension_type] beta: Maybe<Self>,
        eps: f32,
    ) -> FloatTensor<Self>;

    /// The gradient of `x`, and `[T, 2]` with each row's mean and 1/σ.
    #[fusion(meta = |x, _gamma, _gradient, _eps, _centred| (x.clone(), TensorSpec::new([x.shape[0], 2].into(), DType::F32)))]
    fn normalize_grads(
        x: FloatTensor<Self>,
        gamma: FloatTensor<Self>,
        gradient: FloatTensor<Self>,
        eps: f32,
        centred: bool,
    ) -> (FloatTensor<Self>, FloatTensor<Self>);

    /// Sums over parts of the rows of the gradients of gamma and, where rows are centred, of beta: `[1 or 2, parts, H]`.
    #[fusion(meta = |x, _gradient, _stats, centred| sums(x, *centred))]
    fn normalize_sums(
        x: FloatTensor<Self>,
        gradient: FloatTensor<Self>,
        stats: FloatTensor<Self>,
        centred: bool,
    ) -> FloatTensor<Self>;
}

impl NormOps for CubeBackend {
    fn normalize(x: CubeTensor, gamma: CubeTensor, beta: Maybe<Self>, eps: f32) -> CubeTensor {
        normalize(x, gamma, beta, eps)
    }

    fn normalize_grads(
        x: CubeTensor,
        gamma: CubeTensor,
        gradient: CubeTensor,
        eps: f32,
        centred: bool,
    ) -> (CubeTensor, CubeTensor) {
        normalize_grads(x, gamma, gradient, eps, centred)
    }

    fn normalize_sums(x: CubeTensor, gradient: CubeTensor, stats: CubeTensor, centred: bool) -> CubeTensor {
        normalize_sums(x, gradient, stats, centred)
    }
}
