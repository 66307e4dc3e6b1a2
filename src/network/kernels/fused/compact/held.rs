//! Compact matrices in the CPU's memory.

use std::ops::Range;

use burn::{
    backend::{Flex, flex::FlexTensor},
    tensor::{DType, Int, Tensor},
};
use half::{bf16, f16};

use crate::network::kernels::{
    compact::{Compact, Encoding, GROUP},
    fused::kernel::{elements, held},
};

/// Bytes of a group of codes of four bits.
pub(super) const CODES: usize = GROUP / 2;

/// The tensors of a compact matrix, as the CPU has them.
pub(super) enum Held {
    Bf16(FlexTensor),
    F16(FlexTensor),
    Int8(FlexTensor, FlexTensor),
    Int4(FlexTensor, FlexTensor, usize),
}

/// Their elements, row by row.
#[derive(Clone, Copy)]
pub(super) enum Rows<'a> {
    Bf16 { values: &'a [bf16], columns: usize },
    F16 { values: &'a [f16], columns: usize },
    Int8 { codes: &'a [i8], scales: &'a [f32], columns: usize },
    Int4 { codes: &'a [u8], scales: &'a [f16], columns: usize },
}

/// One of them.
#[derive(Clone, Copy)]
pub(super) enum Row<'a> {
    Bf16(&'a [bf16]),
    F16(&'a [f16]),
    Int8(&'a [i8], f32),
    /// With a scale for each group, or one for all.
    Int4(&'a [[u8; CODES]], &'a [f16]),
}

impl Held {
    pub(super) fn new(matrix: &Compact) -> Self {
        let codes = |tensor: &Tensor<2, Int>| {
            let kept = |error| unreachable!("a compact matrix beside a kernel: {error:?}");
            tensor.clone().try_into_primitive::<Flex>().unwrap_or_else(kept)
        };
        match matrix.encoding() {
            Encoding::Halves(values) if values.dtype() == DType::F16 => Self::F16(held(values)),
            Encoding::Halves(values) => Self::Bf16(held(values)),
            Encoding::Int8 { codes: all, scales } => Self::Int8(codes(all), held(scales)),
            Encoding::Int4 { codes: all, scales, columns } => Self::Int4(codes(all), held(scales), *columns),
        }
    }

    pub(super) fn rows(&self, columns: usize) -> Rows<'_> {
        match self {
            Self::Bf16(values) => Rows::Bf16 { values: values.storage(), columns },
            Self::F16(values) => Rows::F16 { values: values.storage(), columns },
            Self::Int8(codes, scales) => Rows::Int8 { codes: codes.storage(), scales: elements(scales), columns },
            Self::Int4(codes, scales, columns) => {
                Rows::Int4 { codes: codes.storage(), scales: scales.storage(), columns: *columns }
            }
        }
    }
}

impl<'a> Rows<'a> {
    pub(super) fn columns(&self) -> usize {
        match *self {
            Self::Bf16 { columns, .. }
            | Self::F16 { columns, .. }
            | Self::Int8 { columns, .. }
            | Self::Int4 { columns, .. } => columns,
        }
    }

    #[inline(always)]
    pub(super) fn row(&self, row: usize) -> Row<'a> {
        match *self {
            Self::Bf16 { values, columns } => Row::Bf16(&values[row * columns..][..columns]),
            Self::F16 { values, columns } => Row::F16(&values[row * columns..][..columns]),
            Self::Int8 { codes, scales, columns } => Row::Int8(&codes[row * columns..][..columns], scales[row]),
            Self::Int4 { codes, scales, columns } => {
                let (groups, scales) = groups(codes, scales, columns, row);
                Row::Int4(groups, scales)
            }
        }
    }
}

/// A row of codes of four bits, with a scale for each group or one for all.
#[inline(always)]
pub(super) fn groups<'a>(
    codes: &'a [u8],
    scales: &'a [f16],
    columns: usize,
    row: usize,
) -> (&'a [[u8; CODES]], &'a [f16]) {
    let (groups, all) = (columns.div_ceil(GROUP), codes.as_chunks().0);
    let width = if scales.len() * GROUP / 2 == codes.len() { groups } else { 1 };
    (&all[row * groups..][..groups], &scales[row * width..][..width])
}

impl<'a> Row<'a> {
    /// Some of its columns, whole groups of them.
    pub(super) fn part(self, columns: Range<usize>) -> Self {
        match self {
            Self::Bf16(values) => Self::Bf16(&values[columns]),
            Self::F16(values) => Self::F16(&values[columns]),
            Self::Int8(codes, scale) => Self::Int8(&codes[columns], scale),
            Self::Int4(all, scales) => {
                let groups = columns.start / GROUP..columns.end.div_ceil(GROUP);
                let scales = if scales.len() == 1 { scales } else { &scales[groups.clone()] };
                Self::Int4(&all[groups], scales)
            }
        }
    }
}

/// A number of half precision in f32, by steps that vectors have; exact, but for infinity and what isn't a number.
#[inline(always)]
pub(super) fn wide(half: f16) -> f32 {
    let bits = u32::from(half.to_bits());
    // Ten bits of a fraction move to where 23 stand, and the exponent's bias goes from 15 to 127.
    let magnitude = f32::from_bits((bits & 0x7fff) << 13) * f32::from_bits((127 + 112) << 23);
    f32::from_bits(magnitude.to_bits() | (bits & 0x8000) << 16)
}

#[inline(always)]
pub(super) fn wide_bf16(value: bf16) -> f32 {
    f32::from_bits(u32::from(value.to_bits()) << 16)
}
