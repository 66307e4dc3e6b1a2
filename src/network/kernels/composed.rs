//! The kernels composed of tensor operations: what runs where there are none of our own, and what those for the CPU are
//! tested against. On GPUs attention, cross-entropy and linear layers are put together here too, of burn's matrix products and of
//! our kernels between them.

mod attention;
mod cross_entropy;
mod rotary;
mod softmax;

pub use attention::{SCORES, attention, attention_in_blocks, grouped_attention};
pub use cross_entropy::{LOGITS, linear_cross_entropy, linear_cross_entropy_in_chunks};
pub use rotary::rotary;
#[cfg(feature = "gpu")]
pub(super) use softmax::Softmax;

use burn::tensor::{DType, Device, Int, Tensor, TensorData, activation};

use super::{
    Dropout, Gelu, Ids, Weight,
    custom_backward::{Grads, custom_backward},
    dropout::{FACTORS, WEYL},
};

/// See [`super::matmul`].
pub fn matmul<const D: usize>(a: Tensor<D>, b: Tensor<D>) -> Tensor<D> {
    if !has_wrong_products(&a.device()) {
        return a.matmul(b);
    }
    let (a_shape, b_shape) = (a.dims(), b.dims());
    let [m, k, n] = [a_shape[D - 2], a_shape[D - 1], b_shape[D - 1]];
    let stack: usize = a_shape[..D - 2].iter().product();
    let mut shape = a_shape;
    shape[D - 1] = n;
    (a.reshape([stack, m, k, 1]) * b.reshape([stack, 1, k, n])).sum_dim(2).reshape(shape)
}

/// Whether cubecl 0.11's staged matrix products can't be trusted here: with SwiftShader they give zeros and partial
/// sums. Software drivers are for tests, so it's enough that products come out right.
fn has_wrong_products(device: &Device) -> bool {
    let software: &[Device] = &[
        #[cfg(feature = "vulkan")]
        Device::vulkan(burn::tensor::DeviceKind::Cpu),
        #[cfg(feature = "wgpu")]
        Device::wgpu(burn::tensor::DeviceKind::Cpu),
    ];
    software.contains(device)
}

/// See [`super::layer_norm`].
pub fn layer_norm(x: Tensor<2>, gamma: Tensor<1>, beta: Tensor<1>, eps: f32) -> Tensor<2> {
    let numbers = x.dtype();
    let x = x.cast(DType::F32);
    let centred = x.clone() - x.mean_dim(1);
    let variance = (centred.clone() * centred.clone()).mean_dim(1);
    let normed = centred / variance.add_scalar(eps).sqrt() * gamma.unsqueeze() + beta.unsqueeze();
    normed.cast(numbers)
}

/// See [`super::rms_norm`].
pub fn rms_norm(x: Tensor<2>, gamma: Tensor<1>, eps: f32) -> Tensor<2> {
    let numbers = x.dtype();
    let x = x.cast(DType::F32);
    let square = (x.clone() * x.clone()).mean_dim(1);
    (x / square.add_scalar(eps).sqrt() * gamma.unsqueeze()).cast(numbers)
}

/// See [`super::gelu`].
pub fn gelu(x: Tensor<2>, kind: Gelu) -> Tensor<2> {
    match kind {
        // Not `activation::gelu`, whose gradient is that of the approximation on some backends.
        Gelu::Erf => x.clone() * x.mul_scalar(std::f32::consts::FRAC_1_SQRT_2).erf().add_scalar(1.0).mul_scalar(0.5),
        Gelu::Tanh => activation::gelu_approximate(x),
    }
}

/// See [`super::bias_gelu`].
pub fn bias_gelu(x: Tensor<2>, bias: Tensor<1>, kind: Gelu) -> Tensor<2> {
    let bias = bias.cast(x.dtype());
    gelu(x + bias.unsqueeze(), kind)
}

/// See [`super::swiglu`].
pub fn swiglu(x: Tensor<2>) -> Tensor<2> {
    let inner = x.dims()[1] / 2;
    activation::silu(x.clone().narrow(1, 0, inner)) * x.narrow(1, inner, inner)
}

/// See [`super::dropout_add`].
pub fn dropout_add(x: Tensor<2>, bias: Option<Tensor<1>>, residual: Tensor<2>, dropout: Option<&Dropout>) -> Tensor<2> {
    let x = match bias {
        Some(bias) => {
            let bias = bias.cast(x.dtype());
            x + bias.unsqueeze()
        }
        None => x,
    };
    match dropout {
        Some(dropout) => residual + self::dropout(x, dropout),
        None => residual + x,
    }
}

/// See [`super::dropout`].
pub fn dropout(x: Tensor<2>, dropout: &Dropout) -> Tensor<2> {
    let [tokens, width] = x.dims();
    let device = x.device().inner();
    let streams: Vec<u32> = (0..tokens).map(|token| dropout.stream(token, 0)).collect();
    let index = whole((0..width as u32).collect(), [1, width], &device);
    let kept = multipliers(dropout, whole(streams, [tokens, 1], &device), index);
    let kept = kept.cast(x.dtype());
    x * kept
}

/// Numbers of 32 bits without sign, on the device.
fn whole<const D: usize>(values: Vec<u32>, shape: [usize; D], device: &Device) -> Tensor<D, Int> {
    Tensor::from_data(TensorData::new(values, shape), (device, DType::U32))
}

/// What elements are multiplied by: the hash of [`Dropout`] where the numbers lie, so that no mask is ever uploaded.
/// `stream` and `index` have one shape, but for axes of length 1.
fn multipliers<const D: usize>(dropout: &Dropout, stream: Tensor<D, Int>, index: Tensor<D, Int>) -> Tensor<D> {
    let mut x = stream + index.mul_scalar(WEYL);
    for (shift, factor) in [(16, Some(FACTORS[0])), (15, Some(FACTORS[1])), (16, None)] {
        let mixed = x.clone().bitwise_xor(x.bitwise_right_shift_scalar(shift));
        x = match factor {
            Some(factor) => mixed.mul_scalar(factor),
            None => mixed,
        };
    }
    x.greater_equal_elem(dropout.threshold()).float().mul_scalar(dropout.scale())
}

/// See [`super::linear`].
pub fn linear(x: Tensor<2>, weight: impl Into<Weight>, bias: Option<Tensor<1>>) -> Tensor<2> {
    let numbers = x.dtype();
    let weight = match weight.into() {
        Weight::Full(weight) => weight,
        Weight::Compact(weight) => weight.expand().cast(numbers),
    };
    let inputs: Vec<Tensor<2>> = [x, weight].into_iter().chain(bias.map(Tensor::unsqueeze)).collect();
    let wanted: Vec<bool> = inputs.iter().map(Tensor::is_tracked).collect();
    let types: Vec<DType> = inputs.iter().map(Tensor::dtype).collect();
    let plain: Vec<Tensor<2>> = inputs.iter().map(|input| input.clone().inner()).collect();
    let mut y = matmul(plain[0].clone(), plain[1].clone().transpose());
    if let Some(bias) = plain.get(2) {
        y = y + bias.clone().cast(numbers);
    }
    // Not left to autodiff: it would give the weight's gradient transposed, and so by copies all over.
    custom_backward(y, inputs, move |gradient: Tensor<2>| {
        let grad = |at: usize| match at {
            0 => matmul(gradient.clone(), plain[1].clone()),
            1 => matmul(gradient.clone().transpose(), plain[0].clone()),
            _ => row_sums(gradient.clone()),
        };
        Grads::of((0..types.len()).map(|at| wanted[at].then(|| grad(at).cast(types[at]))))
    })
}

/// Sum of the rows of `x [T, H]`, in f32: `[1, H]`.
fn row_sums(x: Tensor<2>) -> Tensor<2> {
    #[cfg(feature = "gpu")]
    if super::gpu::applies(&x) {
        return super::gpu::row_sums(x);
    }
    x.cast(DType::F32).sum_dim(0)
}

/// See [`super::embedding`].
pub fn embedding(weight: Tensor<2>, ids: &Ids) -> Tensor<2> {
    weight.select(0, ids.tensor.clone())
}
