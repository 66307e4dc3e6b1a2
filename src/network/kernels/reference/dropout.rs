//! Dropout by operations on integers.

use burn::tensor::{DType, Device, Int, Tensor, TensorData};

use crate::network::kernels::{
    Dropout,
    dropout::{FACTORS, WEYL},
};

/// See [`crate::network::kernels::dropout()`].
pub fn dropout(x: Tensor<2>, dropout: &Dropout) -> Tensor<2> {
    let [tokens, width] = x.dims();
    let device = x.device().inner();
    let streams: Vec<u32> = (0..tokens).map(|token| dropout.stream(token, 0)).collect();
    let index = whole((0..width as u32).collect(), [1, width], &device);
    let kept = multipliers(dropout, whole(streams, [tokens, 1], &device), index);
    let kept = kept.cast(x.dtype());
    x * kept
}

/// Unsigned integers of 32 bits, on the device.
pub(super) fn whole<const D: usize>(values: Vec<u32>, shape: [usize; D], device: &Device) -> Tensor<D, Int> {
    Tensor::from_data(TensorData::new(values, shape), (device, DType::U32))
}

/// What elements are multiplied by: the hash of [`Dropout`], computed on the device, so that no mask is ever uploaded.
/// `stream` and `index` have one shape, but for axes of length 1.
pub(super) fn multipliers<const D: usize>(
    dropout: &Dropout,
    stream: Tensor<D, Int>,
    index: Tensor<D, Int>,
) -> Tensor<D> {
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
