//! GELU and gated units: a unit of the device for each vector.

use burn::{
    backend::{Dispatch, TensorMetadata},
    tensor::{DType, Shape, Tensor},
};
use burn_cubecl::{
    CubeBackend,
    cubecl::{self, prelude::*},
    tensor::CubeTensor,
};

use super::{
    launch::{Rows, elementwise, kind, vector},
    ops::{Maybe, Ops},
    sums::row_sums,
};
use crate::kernels::{
    Gelu,
    handwritten::{Slopes, recorded},
};

/// What is applied to each element, or to the two halves of a row.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub(super) enum Unit {
    /// See [`crate::kernels::gelu`].
    Gelu(Gelu),
    /// See [`crate::kernels::swiglu`].
    SwiGlu,
}

impl Unit {
    /// Shape of the result.
    pub(super) fn shape(self, x: &Shape) -> Shape {
        match self {
            Self::Gelu(_) => x.clone(),
            Self::SwiGlu => [x[0], x[1] / 2].into(),
        }
    }
}

/// See [`crate::kernels::gelu`] and [`crate::kernels::bias_gelu`].
pub(in crate::kernels) fn gelu(x: Tensor<2>, bias: Option<Tensor<1>>, kind: Gelu) -> Tensor<2> {
    activated(x, bias, Unit::Gelu(kind))
}

/// See [`crate::kernels::swiglu`].
pub(in crate::kernels) fn swiglu(x: Tensor<2>) -> Tensor<2> {
    activated(x, None, Unit::SwiGlu)
}

fn activated(x: Tensor<2>, bias: Option<Tensor<1>>, unit: Unit) -> Tensor<2> {
    let inputs: Vec<Tensor<2>> = [x].into_iter().chain(bias.map(Tensor::unsqueeze)).collect();
    let types: Vec<DType> = inputs.iter().map(Tensor::dtype).collect();
    let learned = inputs.get(1).is_some_and(Tensor::is_tracked);
    let x = inputs[0].clone().inner();
    let bias = inputs.get(1).map(|bias| bias.clone().inner().cast(DType::F32));
    let primitive = |bias: &Option<Tensor<2>>| match bias {
        Some(bias) => Maybe::Just(bias.clone().into_dispatch()),
        None => Maybe::Nothing,
    };
    let y = Dispatch::activate(x.clone().into_dispatch(), primitive(&bias), unit);
    recorded(Tensor::from_dispatch(y), inputs, move |gradient: Tensor<2>| {
        let slopes = Dispatch::activate_slopes(x.into_dispatch(), primitive(&bias), gradient.into_dispatch(), unit);
        let slopes = Tensor::<2>::from_dispatch(slopes);
        let of_bias = types.get(1).map(|numbers| learned.then(|| row_sums(slopes.clone()).cast(*numbers)));
        Slopes::of([Some(slopes)].into_iter().chain(of_bias))
    })
}

/// The exact unit: `x Φ(x)`.
#[cube]
fn gelu_erf<N: Size>(x: Vector<f32, N>) -> Vector<f32, N> {
    x * cumulative(x)
}

/// Φ.
#[cube]
fn cumulative<N: Size>(x: Vector<f32, N>) -> Vector<f32, N> {
    let root = Vector::<f32, N>::new(0.707_106_77f32);
    ((x * root).erf() + Vector::<f32, N>::new(1f32)) * Vector::<f32, N>::new(0.5f32)
}

/// Its derivative: `Φ(x) + x φ(x)`.
#[cube]
fn gelu_erf_slope<N: Size>(x: Vector<f32, N>) -> Vector<f32, N> {
    let density = (x * x * Vector::<f32, N>::new(-0.5f32)).exp() * Vector::<f32, N>::new(0.398_942_3f32);
    cumulative(x) + x * density
}

/// `tanh(√(2/π) (x + 0.044715 x³))`, what the approximation is made of.
#[cube]
fn inner<N: Size>(x: Vector<f32, N>) -> Vector<f32, N> {
    let cube = x * x * x * Vector::<f32, N>::new(0.044_715f32);
    ((x + cube) * Vector::<f32, N>::new(0.797_884_6f32)).tanh()
}

#[cube]
fn gelu_tanh<N: Size>(x: Vector<f32, N>) -> Vector<f32, N> {
    x * (inner(x) + Vector::<f32, N>::new(1f32)) * Vector::<f32, N>::new(0.5f32)
}

#[cube]
fn gelu_tanh_slope<N: Size>(x: Vector<f32, N>) -> Vector<f32, N> {
    let (one, half) = (Vector::<f32, N>::new(1f32), Vector::<f32, N>::new(0.5f32));
    let tanh = inner(x);
    let steep = one + x * x * Vector::<f32, N>::new(3f32 * 0.044_715f32);
    let within = (one - tanh * tanh) * steep * Vector::<f32, N>::new(0.797_884_6f32);
    half * (one + tanh) + half * x * within
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
fn gelu_kernel<F: Float, N: Size>(
    x: &[Vector<F, N>],
    bias: &[Vector<f32, N>],
    out: &mut [Vector<F, N>],
    count: usize,
    width: usize,
    #[comptime] exact: bool,
    #[comptime] biased: bool,
    #[define(F)] _numbers: ElemType,
) {
    if ABSOLUTE_POS >= count {
        terminate!();
    }
    let x = shifted::<F, N>(x, bias, width, biased);
    if exact {
        out[ABSOLUTE_POS] = Vector::<F, N>::cast_from(gelu_erf(x));
    } else {
        out[ABSOLUTE_POS] = Vector::<F, N>::cast_from(gelu_tanh(x));
    }
}

#[cube(launch)]
fn gelu_slopes_kernel<F: Float, N: Size>(
    x: &[Vector<F, N>],
    bias: &[Vector<f32, N>],
    slopes: &mut [Vector<F, N>],
    count: usize,
    width: usize,
    #[comptime] exact: bool,
    #[comptime] biased: bool,
    #[define(F)] _numbers: ElemType,
) {
    if ABSOLUTE_POS >= count {
        terminate!();
    }
    let x = shifted::<F, N>(x, bias, width, biased);
    let slope = Vector::<f32, N>::cast_from(slopes[ABSOLUTE_POS]);
    if exact {
        slopes[ABSOLUTE_POS] = Vector::<F, N>::cast_from(slope * gelu_erf_slope(x));
    } else {
        slopes[ABSOLUTE_POS] = Vector::<F, N>::cast_from(slope * gelu_tanh_slope(x));
    }
}

/// `1 / (1 + exp(-x))`.
#[cube]
fn sigmoid<N: Size>(x: Vector<f32, N>) -> Vector<f32, N> {
    let one = Vector::<f32, N>::new(1f32);
    one / (one + (Vector::<f32, N>::new(0f32) - x).exp())
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
    out[ABSOLUTE_POS] = Vector::<F, N>::cast_from(gate * sigmoid(gate) * Vector::<f32, N>::cast_from(x[place + width]));
}

#[cube(launch)]
fn swiglu_slopes_kernel<F: Float, N: Size>(
    x: &[Vector<F, N>],
    gradient: &[Vector<F, N>],
    slopes: &mut [Vector<F, N>],
    count: usize,
    width: usize,
    #[define(F)] _numbers: ElemType,
) {
    if ABSOLUTE_POS >= count {
        terminate!();
    }
    let place = ABSOLUTE_POS / width * width + ABSOLUTE_POS;
    let one = Vector::<f32, N>::new(1f32);
    let gate = Vector::<f32, N>::cast_from(x[place]);
    let rest = Vector::<f32, N>::cast_from(x[place + width]);
    let slope = Vector::<f32, N>::cast_from(gradient[ABSOLUTE_POS]);
    let open = sigmoid(gate);
    slopes[place] = Vector::<F, N>::cast_from(slope * rest * open * (one + gate * (one - open)));
    slopes[place + width] = Vector::<F, N>::cast_from(slope * gate * open);
}

/// `activate` on the device.
pub(super) fn activate(x: CubeTensor, bias: Maybe<CubeBackend>, unit: Unit) -> CubeTensor {
    let x = Rows::new(x);
    let out = x.room(unit.shape(&x.tensor.shape()), x.tensor.dtype);
    let (client, numbers) = (x.client(), kind(x.tensor.dtype));
    match unit {
        Unit::Gelu(gelu) => {
            let vector = vector(x.width);
            let count = x.rows * x.width / vector;
            let (cubes, dim) = elementwise(&client, count);
            let (bias, biased) = bias.or(&x.tensor);
            gelu_kernel::launch(
                &client,
                cubes,
                dim,
                vector,
                x.tensor.into_buffer_arg(),
                Rows::new(bias).tensor.into_buffer_arg(),
                out.clone().into_buffer_arg(),
                count,
                x.width / vector,
                gelu == Gelu::Erf,
                biased,
                numbers,
            );
        }
        Unit::SwiGlu => {
            let width = x.width / 2;
            let vector = vector(width);
            let count = x.rows * width / vector;
            let (cubes, dim) = elementwise(&client, count);
            swiglu_kernel::launch(
                &client,
                cubes,
                dim,
                vector,
                x.tensor.into_buffer_arg(),
                out.clone().into_buffer_arg(),
                count,
                width / vector,
                numbers,
            );
        }
    }
    out
}

/// `activate_slopes` on the device.
pub(super) fn activate_slopes(x: CubeTensor, bias: Maybe<CubeBackend>, gradient: CubeTensor, unit: Unit) -> CubeTensor {
    let x = Rows::new(x);
    let (client, numbers) = (x.client(), kind(x.tensor.dtype));
    match unit {
        Unit::Gelu(gelu) => {
            let slopes = Rows::owned(gradient).tensor;
            let vector = vector(x.width);
            let count = x.rows * x.width / vector;
            let (cubes, dim) = elementwise(&client, count);
            let (bias, biased) = bias.or(&x.tensor);
            gelu_slopes_kernel::launch(
                &client,
                cubes,
                dim,
                vector,
                x.tensor.into_buffer_arg(),
                Rows::new(bias).tensor.into_buffer_arg(),
                slopes.clone().into_buffer_arg(),
                count,
                x.width / vector,
                gelu == Gelu::Erf,
                biased,
                numbers,
            );
            slopes
        }
        Unit::SwiGlu => {
            let slopes = x.room(x.tensor.shape(), x.tensor.dtype);
            let width = x.width / 2;
            let vector = vector(width);
            let count = x.rows * width / vector;
            let (cubes, dim) = elementwise(&client, count);
            swiglu_slopes_kernel::launch(
                &client,
                cubes,
                dim,
                vector,
                x.tensor.into_buffer_arg(),
                Rows::new(gradient).tensor.into_buffer_arg(),
                slopes.clone().into_buffer_arg(),
                count,
                width / vector,
                numbers,
            );
            slopes
        }
    }
}
