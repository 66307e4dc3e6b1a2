//! Compact matrices in f32 again.

use burn::backend::{Flex, flex::FlexTensor};
use half::bf16;
use rayon::prelude::*;

use super::{
    buffer::{room, tensor},
    kernel::elements,
    rows,
};
use crate::network::kernels::{
    compact::{Compact, Encoding},
    simd::simd,
};

/// The matrix in f32.
pub(super) fn expand(matrix: &Compact) -> FlexTensor {
    let [rows, columns] = matrix.dims();
    let mut out = room(rows * columns);
    let width = columns.max(1);
    let parts = out.par_chunks_mut(width).with_min_len(rows::PART).enumerate();
    // A kernel only runs where all its tensors are flex's.
    let kept = |error| unreachable!("a compact matrix beside a kernel: {error:?}");
    match matrix.encoding() {
        Encoding::Bf16(values) => {
            let values = values.clone().try_into_primitive::<Flex>().unwrap_or_else(kept);
            let values: &[bf16] = values.storage();
            parts.for_each(|(row, out)| widen(&values[row * width..][..width], out));
        }
        Encoding::Int8 { codes, scales } => {
            let codes = codes.clone().try_into_primitive::<Flex>().unwrap_or_else(kept);
            let scales = scales.clone().try_into_primitive::<Flex>().unwrap_or_else(kept);
            let (codes, scales): (&[i8], _) = (codes.storage(), elements(&scales));
            parts.for_each(|(row, out)| scale(&codes[row * width..][..width], scales[row], out));
        }
    }
    tensor(out, [rows, columns])
}

simd! {
    fn widen(values: &[bf16], out: &mut [f32]) {
        for (out, value) in out.iter_mut().zip(values) {
            *out = f32::from_bits(u32::from(value.to_bits()) << 16);
        }
    }
}

simd! {
    fn scale(codes: &[i8], by: f32, out: &mut [f32]) {
        for (out, code) in out.iter_mut().zip(codes) {
            *out = f32::from(*code) * by;
        }
    }
}
