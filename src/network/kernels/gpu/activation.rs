//! GELU and its like, and gated units: a unit of the device for each vector.

use burn::{
    backend::{Backend, Dispatch, TensorMetadata, backend_extension, tensor::FloatTensor},
    tensor::{DType, Shape, Tensor},
};
use burn_cubecl::{
    CubeBackend,
    cubecl::{self, prelude::*},
    tensor::CubeTensor,
};

use super::{
    launch::{Flat, Rows, kind},
    math::{density, integral, sigmoid},
    maybe::Maybe,
    sums::row_sums,
};
use crate::network::kernels::{
    Gelu,
    custom_backward::{Grads, custom_backward},
};

/// What is applied to each element, or to the two halves of a row.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub(super) enum Unit {
    /// See [`crate::network::kernels::gelu`].
    Gelu(Gelu),
    /// See [`crate::network::kernels::silu`].
    Silu,
    /// See [`crate::network::kernels::tanh`].
    Tanh,
    /// See [`crate::network::kernels::swiglu`].
    SwiGlu,
}

impl Unit {
    /// Shape of the result.
    pub(super) fn shape(self, x: &Shape) -> Shape {
        match self {
            Self::Gelu(_) | Self::Silu | Self::Tanh => x.clone(),
            Self::SwiGlu => [x[0], x[1] / 2].into(),
        }
    }
}

/// See [`crate::network::kernels::gelu`] and [`crate::network::kernels::bias_gelu`].
pub(super) fn gelu(x: Tensor<2>, bias: Option<Tensor<1>>, kind: Gelu) -> Tensor<2> {
    activated(x, bias, Unit::Gelu(kind))
}

/// See [`crate::network::kernels::silu`].
pub(super) fn silu(x: Tensor<2>) -> Tensor<2> {
    activated(x, None, Unit::Silu)
}

/// See [`crate::network::kernels::tanh`].
pub(super) fn tanh(x: Tensor<2>) -> Tensor<2> {
    activated(x, None, Unit::Tanh)
}

/// See [`crate::network::kernels::swiglu`].
pub(super) fn swiglu(x: Tensor<2>) -> Tensor<2> {
    activated(x, None, Unit::SwiGlu)
}

fn activated(x: Tensor<2>, bias: Option<Tensor<1>>, unit: Unit) -> Tensor<2> {
    let inputs: Vec<Tensor<2>> = [x].into_iter().chain(bias.map(Tensor::unsqueeze)).collect();
    let types: Vec<DType> = inputs.iter().map(Tensor::dtype).collect();
    let learned = inputs.get(1).is_some_and(Tensor::is_tracked);
    let x = inputs[0].clone().inner();
    let bias = inputs.get(1).map(|bias| bias.clone().inner().cast(DType::F32));
    let y = Dispatch::activate(x.clone().into_dispatch(), Maybe::new(bias.clone()), unit);
    custom_backward(Tensor::from_dispatch(y), inputs, move |gradient: Tensor<2>| {
        let grads =
            Dispatch::activate_grads(x.into_dispatch(), Maybe::new(bias.clone()), gradient.into_dispatch(), unit);
        let grads = Tensor::<2>::from_dispatch(grads);
        let of_bias = types.get(1).map(|dtype| learned.then(|| row_sums(grads.clone()).cast(*dtype)));
        Grads::of([Some(grads)].into_iter().chain(of_bias))
    })
}

/// A unit of each element.
#[cube]
fn applied<N: Size>(x: Vector<f32, N>, #[comptime] unit: Unit) -> Vector<f32, N> {
    match unit {
        Unit::Gelu(Gelu::Erf) => x * integral(x),
        Unit::Gelu(Gelu::Tanh) => x * sigmoid(within(x)),
        Unit::Tanh => sigmoid(x + x) * Vector::<f32, N>::new(2f32) - Vector::<f32, N>::new(1f32),
        Unit::Silu | Unit::SwiGlu => x * sigmoid(x),
    }
}

/// Its derivative.
#[cube]
fn derivative<N: Size>(x: Vector<f32, N>, #[comptime] unit: Unit) -> Vector<f32, N> {
    let one = Vector::<f32, N>::new(1f32);
    match unit {
        Unit::Gelu(Gelu::Erf) => integral(x) + x * density(x),
        Unit::Gelu(Gelu::Tanh) => {
            let open = sigmoid(within(x));
            let steep = (one + x * x * Vector::<f32, N>::new(0.134_145f32)) * Vector::<f32, N>::new(1.595_769_2f32);
            open + x * open * (one - open) * steep
        }
        Unit::Tanh => {
            let open = sigmoid(x + x);
            open * (one - open) * Vector::<f32, N>::new(4f32)
        }
        Unit::Silu | Unit::SwiGlu => {
            let open = sigmoid(x);
            open * (one + x * (one - open))
        }
    }
}

/// `2 √(2/π) (x + 0.044715 x³)`: `(1 + tanh u) / 2` is the sigmoid of `2 u`.
#[cube]
fn within<N: Size>(x: Vector<f32, N>) -> Vector<f32, N> {
    let cubic = Vector::<f32, N>::new(1f32) + x * x * Vector::<f32, N>::new(0.044_715f32);
    x * cubic * Vector::<f32, N>::new(1.595_769_2f32)
}

/// `x` plus the bias of its column, where there is one.
#[cube]
fn shifted<F: Float, N: Size>(
    x: &[Vector<F, N>],
    bias: &[Vector<f32, N>],
    width: usize,
    #[comptime] biased: bool,
) -> Vector<f32, N> {
    let mut shifted = Vector::<f32, N>::cast_from(x[ABSOLUTE_POS]);
    if biased {
        shifted += bias[ABSOLUTE_POS % width];
    }
    shifted
}

#[cube(launch)]
fn unit_kernel<F: Float, N: Size>(
    x: &[Vector<F, N>],
    bias: &[Vector<f32, N>],
    out: &mut [Vector<F, N>],
    count: usize,
    width: usize,
    #[comptime] unit: Unit,
    #[comptime] biased: bool,
    #[define(F)] _numbers: ElemType,
) {
    if ABSOLUTE_POS >= count {
        terminate!();
    }
    let x = shifted::<F, N>(x, bias, width, biased);
    out[ABSOLUTE_POS] = Vector::<F, N>::cast_from(applied(x, unit));
}

#[cube(launch)]
fn unit_grads_kernel<F: Float, N: Size>(
    x: &[Vector<F, N>],
    bias: &[Vector<f32, N>],
    grads: &mut [Vector<F, N>],
    count: usize,
    width: usize,
    #[comptime] unit: Unit,
    #[comptime] biased: bool,
    #[define(F)] _numbers: ElemType,
) {
    if ABSOLUTE_POS >= count {
        terminate!();
    }
    let x = shifted::<F, N>(x, bias, width, biased);
    let gradient = Vector::<f32, N>::cast_from(grads[ABSOLUTE_POS]);
    grads[ABSOLUTE_POS] = Vector::<F, N>::cast_from(gradient * derivative(x, unit));
}

/// `width` is that of the result.
#[cube(launch)]
fn swiglu_kernel<F: Float, N: Size>(
    x: &[Vector<F, N>],
    out: &mut [Vector<F, N>],
    count: usize,
    width: usize,
    #[define(F)] _numbers: ElemType,
) {
    if ABSOLUTE_POS >= count {
        terminate!();
    }
    let place = ABSOLUTE_POS / width * width + ABSOLUTE_POS;
    let gate = Vector::<f32, N>::cast_from(x[place]);
    out[ABSOLUTE_POS] =
        Vector::<F, N>::cast_from(applied(gate, Unit::SwiGlu) * Vector::<f32, N>::cast_from(x[place + width]));
}

#[cube(launch)]
fn swiglu_grads_kernel<F: Float, N: Size>(
    x: &[Vector<F, N>],
    gradient: &[Vector<F, N>],
    grads: &mut [Vector<F, N>],
    count: usize,
    width: usize,
    #[define(F)] _numbers: ElemType,
) {
    if ABSOLUTE_POS >= count {
        terminate!();
    }
    let place = ABSOLUTE_POS / width * width + ABSOLUTE_POS;
    let gate = Vector::<f32, N>::cast_from(x[place]);
    let rest = Vector::<f32, N>::cast_from(x[place + width]);
    let gradient = Vector::<f32, N>::cast_from(gradient[ABSOLUTE_POS]);
    grads[place] = Vector::<F, N>::cast_from(gradient * rest * derivative(gate, Unit::SwiGlu));
    grads[place + width] = Vector::<F, N>::cast_from(gradient * applied(gate, Unit::SwiGlu));
}

/// `activate` on the device.
fn activate(x: CubeTensor, bias: Maybe<CubeBackend>, unit: Unit) -> CubeTensor {
    let x = Rows::new(x);
    let out = x.room(unit.shape(&x.tensor.shape()), x.tensor.dtype);
    let (client, dtype) = (x.client(), kind(x.tensor.dtype));
    match unit {
        Unit::Gelu(_) | Unit::Silu | Unit::Tanh => {
            let Flat { cubes, dim, vector, count, width } = Flat::new(&client, x.rows, x.width);
            let (bias, biased) = bias.or(&x.tensor);
            unit_kernel::launch(
                &client,
                cubes,
                dim,
                vector,
                x.tensor.into_buffer_arg(),
                Rows::new(bias).tensor.into_buffer_arg(),
                out.clone().into_buffer_arg(),
                count,
                width,
                unit,
                biased,
                dtype,
            );
        }
        Unit::SwiGlu => {
            let Flat { cubes, dim, vector, count, width } = Flat::new(&client, x.rows, x.width / 2);
            swiglu_kernel::launch(
                &client,
                cubes,
                dim,
                vector,
                x.tensor.into_buffer_arg(),
                out.clone().into_buffer_arg(),
                count,
                width,
                dtype,
            );
        }
    }
    out
}

/// `activate_grads` on the device.
fn activate_grads(x: CubeTensor, bias: Maybe<CubeBackend>, gradient: CubeTensor, unit: Unit) -> CubeTensor {
    let x = Rows::new(x);
    let (client, dtype) = (x.client(), kind(x.tensor.dtype));
    match unit {
        Unit::Gelu(_) | Unit::Silu | Unit::Tanh => {
            let grads = Rows::owned(gradient).tensor;
            let Flat { cubes, dim, vector, count, width } = Flat::new(&client, x.rows, x.width);
            let (bias, biased) = bias.or(&x.tensor);
            unit_grads_kernel::launch(
                &client,
                cubes,
                dim,
                vector,
                x.tensor.into_buffer_arg(),
                Rows::new(bias).tensor.into_buffer_arg(),
                grads.clone().into_buffer_arg(),
                count,
                width,
                unit,
                biased,
                dtype,
            );
            grads
        }
        Unit::SwiGlu => {
            let grads = x.room(x.tensor.shape(), x.tensor.dtype);
            let Flat { cubes, dim, vector, count, width } = Flat::new(&client, x.rows, x.width / 2);
            swiglu_grads_kernel::launch(
                &client,
                cubes,
                dim,
                vector,
                x.tensor.into_buffer_arg(),
                Rows::new(gradient).tensor.into_buffer_arg(),
                grads.clone().into_buffer_arg(),
                count,
                width,
                dtype,
            );
            grads
        }
    }
}

/// What enters burn's dispatch; nothing of it is differentiated.
#[backend_extension(Cube, Fusion)]
trait ActivationOps: Backend {
    /// A unit applied to `x [T, F]`, to which `bias [F]` is added.
    #[fusion(dtype = x, shape = unit.shape(x))]
    fn activate(x: FloatTensor<Self>, #[extension_type] bias: Maybe<Self>, unit: Unit) -> FloatTensor<Self>;

    /// The gradient of `x` from that of the result.
    #[fusion(dtype = x, shape = x)]
    fn activate_grads(
        x: FloatTensor<Self>,
        #[extension_type] bias: Maybe<Self>,
        gradient: FloatTensor<Self>,
        unit: Unit,
    ) -> FloatTensor<Self>;
}

impl ActivationOps for CubeBackend {
    fn activate(x: CubeTensor, bias: Maybe<Self>, unit: Unit) -> CubeTensor {
        activate(x, bias, unit)
    }

    fn activate_grads(x: CubeTensor, bias: Maybe<Self>, gradient: CubeTensor, unit: Unit) -> CubeTensor {
        activate_grads(x, bias, gradient, unit)
    }
}
