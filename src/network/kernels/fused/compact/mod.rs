//! Compact matrices on the CPU: their memory, rows in f32 again, and products with them.

#[cfg(target_arch = "x86_64")]
mod avx2;
mod few;
mod plain;
mod product;

pub(super) use product::{expand, multiply};

use burn::{
    backend::{Flex, flex::FlexTensor},
    tensor::{DType, Int, Tensor},
};
use half::{bf16, f16};
use rayon::prelude::*;

use super::{
    buffer::{room, tensor},
    kernel::elements,
    rows,
};
use crate::network::kernels::{
    compact::{Compact, Encoding, GROUP},
    embedding::RowIds,
    simd::simd,
};

/// Bytes of a group of codes of four bits.
const CODES: usize = GROUP / 2;

/// The tensors of a compact matrix, as the CPU has them.
pub(super) enum Held {
    Bf16(FlexTensor),
    F16(FlexTensor),
    Int8(FlexTensor, FlexTensor),
    Int4(FlexTensor, FlexTensor, usize),
}

/// Their elements, row by row.
#[derive(Clone, Copy)]
enum Rows<'a> {
    Bf16 { values: &'a [bf16], columns: usize },
    F16 { values: &'a [f16], columns: usize },
    Int8 { codes: &'a [i8], scales: &'a [f32], columns: usize },
    Int4 { codes: &'a [u8], scales: &'a [f16], columns: usize },
}

/// One of them.
#[derive(Clone, Copy)]
enum Row<'a> {
    Bf16(&'a [bf16]),
    F16(&'a [f16]),
    Int8(&'a [i8], f32),
    /// With a scale for each group, or one for all.
    Int4(&'a [[u8; CODES]], &'a [f16]),
}

impl Held {
    pub(super) fn new(matrix: &Compact) -> Self {
        // A kernel only runs where all its tensors are flex's.
        let floats = |tensor: &Tensor<2>| {
            let kept = |error| unreachable!("a compact matrix beside a kernel: {error:?}");
            tensor.clone().try_into_primitive::<Flex>().unwrap_or_else(kept)
        };
        let codes = |tensor: &Tensor<2, Int>| {
            let kept = |error| unreachable!("a compact matrix beside a kernel: {error:?}");
            tensor.clone().try_into_primitive::<Flex>().unwrap_or_else(kept)
        };
        match matrix.encoding() {
            Encoding::Halves(values) if values.dtype() == DType::F16 => Self::F16(floats(values)),
            Encoding::Halves(values) => Self::Bf16(floats(values)),
            Encoding::Int8 { codes: all, scales } => Self::Int8(codes(all), floats(scales)),
            Encoding::Int4 { codes: all, scales, columns } => Self::Int4(codes(all), floats(scales), *columns),
        }
    }

    fn rows(&self, columns: usize) -> Rows<'_> {
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
    fn columns(&self) -> usize {
        match *self {
            Self::Bf16 { columns, .. }
            | Self::F16 { columns, .. }
            | Self::Int8 { columns, .. }
            | Self::Int4 { columns, .. } => columns,
        }
    }

    #[inline(always)]
    fn row(&self, row: usize) -> Row<'a> {
        match *self {
            Self::Bf16 { values, columns } => Row::Bf16(&values[row * columns..][..columns]),
            Self::F16 { values, columns } => Row::F16(&values[row * columns..][..columns]),
            Self::Int8 { codes, scales, columns } => Row::Int8(&codes[row * columns..][..columns], scales[row]),
            Self::Int4 { codes, scales, columns } => {
                let (groups, all) = (columns.div_ceil(GROUP), codes.as_chunks().0);
                let width = if scales.len() * GROUP / 2 == codes.len() { groups } else { 1 };
                Row::Int4(&all[row * groups..][..groups], &scales[row * width..][..width])
            }
        }
    }
}

/// A number of half precision in f32, by steps that vectors have; exact, but for infinity and what isn't a number.
#[inline(always)]
fn wide(half: f16) -> f32 {
    let bits = u32::from(half.to_bits());
    // Ten bits of a fraction move to where 23 stand, and the exponent's bias goes from 15 to 127.
    let magnitude = f32::from_bits((bits & 0x7fff) << 13) * f32::from_bits((127 + 112) << 23);
    f32::from_bits(magnitude.to_bits() | (bits & 0x8000) << 16)
}

#[inline(always)]
fn wide_bf16(value: bf16) -> f32 {
    f32::from_bits(u32::from(value.to_bits()) << 16)
}

simd! {
    /// A row in f32.
    fn expand_row(row: Row, out: &mut [f32]) {
        match row {
            Row::Bf16(values) => out.iter_mut().zip(values).for_each(|(out, &value)| *out = wide_bf16(value)),
            Row::F16(values) => out.iter_mut().zip(values).for_each(|(out, &value)| *out = wide(value)),
            Row::Int8(codes, scale) => {
                out.iter_mut().zip(codes).for_each(|(out, &code)| *out = f32::from(code) * scale);
            }
            Row::Int4(groups, scales) => {
                for (group, (codes, out)) in groups.iter().zip(out.chunks_mut(GROUP)).enumerate() {
                    let mut values = [0.0; GROUP];
                    expand_group(codes, wide(scales[if scales.len() == 1 { 0 } else { group }]), &mut values);
                    out.copy_from_slice(&values[..out.len()]);
                }
            }
        }
    }
}

/// The codes of a group times a scale.
#[inline(always)]
fn expand_group(codes: &[u8; CODES], scale: f32, out: &mut [f32; GROUP]) {
    #[cfg(target_arch = "x86_64")]
    if avx2::available() {
        // SAFETY: the processor has what it's compiled for.
        #[expect(unsafe_code)]
        unsafe {
            avx2::expand(codes, scale, out);
        }
        return;
    }
    for at in 0..CODES {
        out[at] = (f32::from(codes[at] & 15) - 8.0) * scale;
        out[at + CODES] = (f32::from(codes[at] >> 4) - 8.0) * scale;
    }
}

/// Rows of a compact table, one for each id: `[ids, C]`.
pub(super) fn look_up(table: &Compact, ids: &RowIds) -> FlexTensor {
    let [_, columns] = table.dims();
    let held = Held::new(table);
    let (from, ids) = (held.rows(columns), &ids.host);
    let mut out = room(ids.len() * columns);
    let part = (rows::PART * columns).max(1);
    out.par_chunks_mut(part).enumerate().for_each(|(index, out)| {
        let ids = &ids[index * rows::PART..];
        ids.iter()
            .zip(out.chunks_exact_mut(columns.max(1)))
            .for_each(|(id, out)| expand_row(from.row(*id as usize), out));
    });
    tensor(out, [ids.len(), columns])
}
