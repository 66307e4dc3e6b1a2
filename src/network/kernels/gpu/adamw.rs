//! The optimiser's step, in place: one launch a parameter.

use burn::{
    backend::{Backend, Dispatch, TensorMetadata, backend_extension, tensor::FloatTensor},
    tensor::{DType, Device, Tensor},
};
use burn_cubecl::{
    CubeBackend,
    cubecl::{self, prelude::*},
    tensor::CubeTensor,
};

use super::{
    launch::{Flat, Rows, elementwise, kind},
    maybe::Maybe,
};

/// Partial sums that squares are added to before they're one sum; as many units add.
const SQUARES: usize = 1 << 16;

/// What a step does to every element of a parameter.
#[derive(Clone, Copy, Debug)]
pub(in crate::network::kernels) struct Update {
    /// Learning rate over the correction of the mean.
    pub(in crate::network::kernels) step_size: f32,
    /// 1 over the root of the correction of the mean square.
    pub(in crate::network::kernels) square_scale: f32,
    /// What is left of a value after its decay.
    pub(in crate::network::kernels) keep: f32,
    /// Decay of the mean of gradients.
    pub(in crate::network::kernels) beta1: f32,
    /// Decay of the mean of squared gradients.
    pub(in crate::network::kernels) beta2: f32,
    /// Keeps the division finite.
    pub(in crate::network::kernels) epsilon: f32,
}

impl Update {
    /// Values and moments (mean and mean square) one step further; the gradient is multiplied by `clip [1]` first.
    pub(in crate::network::kernels) fn apply<const D: usize>(
        self,
        values: Tensor<D>,
        gradient: Tensor<D>,
        [mean, square]: [Tensor<D>; 2],
        clip: Option<Tensor<1>>,
    ) -> (Tensor<D>, [Tensor<D>; 2]) {
        let [values, gradient, mean, square] = [values, gradient, mean, square].map(Tensor::into_dispatch);
        let (values, mean, square) = Dispatch::adamw(values, gradient, mean, square, Maybe::new(clip), self);
        (Tensor::from_dispatch(values), [mean, square].map(Tensor::from_dispatch))
    }
}

/// Sum of squares over tensors of any shape.
pub(in crate::network::kernels) struct Squares(Tensor<1>);

impl Squares {
    pub(in crate::network::kernels) fn new(device: &Device) -> Self {
        Self(Tensor::zeros([SQUARES], (device, DType::F32)))
    }

    pub(in crate::network::kernels) fn add<const D: usize>(self, x: Tensor<D>) -> Self {
        Self(Tensor::from_dispatch(Dispatch::add_squares(self.0.into_dispatch(), x.into_dispatch())))
    }

    /// `[1]`.
    pub(in crate::network::kernels) fn sum(self) -> Tensor<1> {
        self.0.sum()
    }
}

#[cube(launch)]
fn adamw_kernel<F: Float, N: Size>(
    values: &mut [Vector<f32, N>],
    gradient: &[Vector<F, N>],
    mean: &mut [Vector<f32, N>],
    square: &mut [Vector<f32, N>],
    clip: &[f32],
    count: usize,
    step_size: f32,
    square_scale: f32,
    keep: f32,
    beta1: f32,
    beta2: f32,
    epsilon: f32,
    #[comptime] clipped: bool,
    #[define(F)] _numbers: ElemType,
) {
    if ABSOLUTE_POS >= count {
        terminate!();
    }
    let mut grad = Vector::<f32, N>::cast_from(gradient[ABSOLUTE_POS]);
    if clipped {
        grad *= Vector::<f32, N>::new(clip[0]);
    }
    let m = mean[ABSOLUTE_POS] * Vector::<f32, N>::new(beta1) + grad * Vector::<f32, N>::new(1f32 - beta1);
    let v = square[ABSOLUTE_POS] * Vector::<f32, N>::new(beta2) + grad * grad * Vector::<f32, N>::new(1f32 - beta2);
    let spread = v.sqrt() * Vector::<f32, N>::new(square_scale) + Vector::<f32, N>::new(epsilon);
    let value = values[ABSOLUTE_POS] * Vector::<f32, N>::new(keep);
    values[ABSOLUTE_POS] = value - m * Vector::<f32, N>::new(step_size) / spread;
    mean[ABSOLUTE_POS] = m;
    square[ABSOLUTE_POS] = v;
}

#[cube(launch)]
fn squares_kernel<F: Float>(sums: &mut [f32], x: &[F], count: usize, #[define(F)] _numbers: ElemType) {
    if ABSOLUTE_POS >= sums.len() {
        terminate!();
    }
    let mut sum = sums[ABSOLUTE_POS];
    let mut at = ABSOLUTE_POS;
    while at < count {
        let element = f32::cast_from(x[at]);
        sum += element * element;
        at += sums.len();
    }
    sums[ABSOLUTE_POS] = sum;
}

/// `adamw` on the device.
fn adamw(
    values: CubeTensor,
    gradient: CubeTensor,
    mean: CubeTensor,
    square: CubeTensor,
    clip: Maybe<CubeBackend>,
    update: Update,
) -> (CubeTensor, CubeTensor, CubeTensor) {
    let (values, gradient) = (Rows::owned(values), Rows::new(gradient));
    let (mean, square) = (Rows::owned(mean).tensor, Rows::owned(square).tensor);
    let (client, dtype) = (values.client(), kind(gradient.tensor.dtype));
    let Flat { cubes, dim, vector, count, .. } = Flat::new(&client, 1, values.tensor.shape().num_elements());
    let (clip, clipped) = clip.or(&gradient.tensor);
    adamw_kernel::launch(
        &client,
        cubes,
        dim,
        vector,
        values.tensor.clone().into_buffer_arg(),
        gradient.tensor.into_buffer_arg(),
        mean.clone().into_buffer_arg(),
        square.clone().into_buffer_arg(),
        clip.into_buffer_arg(),
        count,
        update.step_size,
        update.square_scale,
        update.keep,
        update.beta1,
        update.beta2,
        update.epsilon,
        clipped,
        dtype,
    );
    (values.tensor, mean, square)
}

/// `add_squares` on the device.
fn add_squares(sums: CubeTensor, x: CubeTensor) -> CubeTensor {
    let (sums, x) = (Rows::owned(sums), Rows::new(x));
    let (client, dtype) = (x.client(), kind(x.tensor.dtype));
    let (cubes, dim) = elementwise(&client, sums.width);
    let count = x.tensor.shape().num_elements();
    squares_kernel::launch(
        &client,
        cubes,
        dim,
        sums.tensor.clone().into_buffer_arg(),
        x.tensor.into_buffer_arg(),
        count,
        dtype,
    );
    sums.tensor
}

/// What enters burn's dispatch; nothing of it is differentiated.
#[backend_extension(Cube, Fusion)]
trait AdamWOps: Backend {
    /// Parameters and both moments one step further.
    #[fusion(meta = |values, _gradient, mean, square, _clip, _update| (values.clone(), mean.clone(), square.clone()))]
    fn adamw(
        values: FloatTensor<Self>,
        gradient: FloatTensor<Self>,
        mean: FloatTensor<Self>,
        square: FloatTensor<Self>,
        #[extension_type] clip: Maybe<Self>,
        update: Update,
    ) -> (FloatTensor<Self>, FloatTensor<Self>, FloatTensor<Self>);

    /// `sums` with squares of the elements of `x` added, in whatever place.
    #[fusion(dtype = sums, shape = sums)]
    fn add_squares(sums: FloatTensor<Self>, x: FloatTensor<Self>) -> FloatTensor<Self>;
}

impl AdamWOps for CubeBackend {
    fn adamw(
        values: CubeTensor,
        gradient: CubeTensor,
        mean: CubeTensor,
        square: CubeTensor,
        clip: Maybe<Self>,
        update: Update,
    ) -> (CubeTensor, CubeTensor, CubeTensor) {
        adamw(values, gradient, mean, square, clip, update)
    }

    fn add_squares(sums: CubeTensor, x: CubeTensor) -> CubeTensor {
        add_squares(sums, x)
    }
}
