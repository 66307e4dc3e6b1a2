//! Rounding of weights to fewer bits, some rows at a time, so that all of them never exist in f32.

use anyhow::{Result, anyhow, ensure};
use burn::tensor::{DType, Device, TensorData};
use half::{
    bf16, f16,
    slice::{HalfBitsSliceExt, HalfFloatSliceExt},
};
use rayon::prelude::*;

use super::{
    compact::{Compact, CompactForm, GROUP},
    memory::Memory,
    rounding::{int4, int8},
    slices::on_flex,
};
use crate::support::panics::caught_everywhere;

/// Elements that a thread rounds at a time, and has in f32 at a time.
const PART: usize = 1 << 16;

/// A compact matrix in the making.
pub struct Compactor {
    form: CompactForm,
    shape: [usize; 2],
    /// Rows that are there.
    done: usize,
    /// Bytes of a row's elements.
    stride: usize,
    bytes: Memory,
    /// Scales of whole rows, in eight bits.
    scales: Vec<f32>,
    /// Scales of groups, in four bits.
    group_scales: Vec<f16>,
}

/// Rows of it that one thread makes.
struct Part<'a> {
    bytes: &'a mut [u8],
    scales: &'a mut [f32],
    group_scales: &'a mut [f16],
}

impl Compactor {
    /// Of a matrix of this shape, with no rows yet.
    pub fn new(form: CompactForm, shape: [usize; 2]) -> Self {
        let [rows, columns] = shape;
        let (scales, groups) = scales_of_row(form, columns);
        let stride = match form {
            CompactForm::Bf16 | CompactForm::F16 => 2 * columns,
            CompactForm::Int8 => columns,
            CompactForm::Int4 => groups * GROUP / 2,
        };
        Self {
            form,
            shape,
            done: 0,
            stride,
            bytes: Memory::zeroed(rows * stride),
            scales: vec![0.0; rows * scales],
            group_scales: vec![f16::ZERO; rows * groups],
        }
    }

    /// Adds so many rows, the f32 values of which `elements` writes, from one on, to where they're wanted: some at a time, which
    /// stay in the cache of the processor that rounds them.
    ///
    /// # Errors
    /// Those of `elements`.
    pub fn push(&mut self, rows: usize, elements: impl Fn(usize, &mut [f32]) -> Result<()> + Sync) -> Result<()> {
        let Self { form, shape: [_, columns], done, stride, .. } = *self;
        let (scales, groups) = scales_of_row(form, columns);
        let most = (PART / columns.max(1)).max(1);
        let mut bytes = &mut self.bytes[done * stride..][..rows * stride];
        let mut row_scales = &mut self.scales[done * scales..][..rows * scales];
        let mut group_scales = &mut self.group_scales[done * groups..][..rows * groups];
        let mut parts = Vec::new();
        for first in (0..if columns == 0 { 0 } else { rows }).step_by(most) {
            let count = most.min(rows - first);
            let part = Part {
                bytes: split_off(&mut bytes, count * stride),
                scales: split_off(&mut row_scales, count * scales),
                group_scales: split_off(&mut group_scales, count * groups),
            };
            parts.push((first, count, part));
        }
        parts.into_par_iter().try_for_each_init(Vec::new, |values, (first, count, part)| {
            values.resize(count * columns, 0.0);
            elements(first * columns, values)?;
            let rows = values.chunks_exact(columns).zip(part.bytes.chunks_exact_mut(stride)).enumerate();
            rows.for_each(|(at, (row, out))| match form {
                CompactForm::Bf16 => halves(row, out, |value| bf16::from_f32(value).to_bits()),
                CompactForm::F16 => half_precision(row, out),
                CompactForm::Int8 => part.scales[at] = int8(row, out),
                CompactForm::Int4 => int4(row, out, &mut part.group_scales[at * groups..][..groups]),
            });
            anyhow::Ok(())
        })?;
        self.done += rows;
        Ok(())
    }

    /// The matrix, once all rows are there.
    pub fn finish(self, device: &Device) -> Compact {
        let Self { form, shape: [rows, columns], stride, bytes, scales, group_scales, .. } = self;
        let data = |shape: [usize; 2], dtype| TensorData::from_bytes(bytes.into_bytes(), shape, dtype);
        match form {
            CompactForm::Bf16 => Compact::halves(data([rows, columns], DType::BF16), device),
            CompactForm::F16 => Compact::halves(data([rows, columns], DType::F16), device),
            CompactForm::Int8 => Compact::int8(data([rows, columns], DType::I8), scales, device),
            CompactForm::Int4 => {
                let scales = TensorData::new(group_scales, [rows, columns.div_ceil(GROUP)]);
                Compact::int4(data([rows, stride], DType::U8), scales, columns, device)
            }
        }
    }
}

impl Compact {
    /// Whether a device has the types of a form: it has to expand some numbers to what the CPU makes of them.
    ///
    /// # Errors
    /// What comes of it instead.
    pub fn check(form: CompactForm, device: &Device) -> Result<()> {
        if on_flex(device) {
            return Ok(());
        }
        // A driver may end the process for a type that it hasn't.
        for &dtype in form.dtypes() {
            ensure!(device.supports_dtype(dtype), "it hasn't the type {dtype:?}");
        }
        let values: Vec<f32> = (0..2 * GROUP).map(|at| (at as f32 - 31.0) / 32.0).collect();
        let expanded = |device: &Device| {
            let matrix = Self::new(form, &values, [2, GROUP], device).expand();
            matrix.try_into_vec_as::<f32>().map_err(|error| anyhow!("{error:?}"))
        };
        let found = caught_everywhere(|| expanded(device))??;
        ensure!(found == expanded(&Device::flex())?, "its numbers come out wrong");
        Ok(())
    }

    /// Rounds f32 `values`, row by row.
    pub fn new(form: CompactForm, values: &[f32], shape: [usize; 2], device: &Device) -> Self {
        let mut compactor = Compactor::new(form, shape);
        let copied = compactor.push(shape[0], |first, out| {
            out.copy_from_slice(&values[first..][..out.len()]);
            Ok(())
        });
        debug_assert!(copied.is_ok(), "copying can't fail");
        compactor.finish(device)
    }
}

/// How many scales a row has, and how many of its groups.
fn scales_of_row(form: CompactForm, columns: usize) -> (usize, usize) {
    match form {
        CompactForm::Bf16 | CompactForm::F16 => (0, 0),
        CompactForm::Int8 => (1, 0),
        CompactForm::Int4 => (0, columns.div_ceil(GROUP)),
    }
}

/// Takes the first elements off a slice.
fn split_off<'a, T>(rest: &mut &'a mut [T], count: usize) -> &'a mut [T] {
    let (first, others) = std::mem::take(rest).split_at_mut(count);
    *rest = others;
    first
}

/// Eight at a time by the processor's own instruction, where it has one.
fn half_precision(row: &[f32], out: &mut [u8]) {
    let mut bits = [0; 64];
    for (row, out) in row.chunks(bits.len()).zip(out.chunks_mut(2 * bits.len())) {
        let bits = &mut bits[..row.len()];
        bits.reinterpret_cast_mut::<f16>().convert_from_f32_slice(row);
        out.as_chunks_mut().0.iter_mut().zip(bits).for_each(|(out, bits)| *out = bits.to_ne_bytes());
    }
}

fn halves(row: &[f32], out: &mut [u8], bits: impl Fn(f32) -> u16) {
    for (out, &value) in out.as_chunks_mut().0.iter_mut().zip(row) {
        *out = bits(value).to_ne_bytes();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_are_rounded_as_one_by_one_however_many_come_at_a_time() {
        // More than a part of them, the last one not whole.
        let (rows, columns) = (2 * PART / 96 + 5, 96);
        let values: Vec<f32> = (0..rows * columns).map(|at| (at as f32 * 0.7).sin() * (at % 91) as f32).collect();
        let elements = |skipped: usize| {
            let values = &values;
            move |first: usize, out: &mut [f32]| {
                out.copy_from_slice(&values[skipped * columns + first..][..out.len()]);
                Ok(())
            }
        };
        for form in [CompactForm::Bf16, CompactForm::F16, CompactForm::Int8, CompactForm::Int4] {
            let bytes = |compact: &Compact, rows| compact.data(rows, false).unwrap().into_bytes().to_vec();
            let mut compactor = Compactor::new(form, [rows, columns]);
            compactor.push(3, elements(0)).unwrap();
            compactor.push(rows - 3, elements(3)).unwrap();
            let together = compactor.finish(&Device::flex());
            for row in [0, 2, 3, rows / 2, rows - 1] {
                let one = Compact::new(form, &values[row * columns..][..columns], [1, columns], &Device::flex());
                assert_eq!(bytes(&together, row..row + 1), bytes(&one, 0..1), "{form:?}, row {row}");
                let scales = |compact: &Compact, row: usize| {
                    let scales = compact.scales()?.clone().narrow(0, row, 1).cast(DType::F32);
                    Some(scales.try_into_vec_as::<f32>().unwrap())
                };
                assert_eq!(scales(&together, row), scales(&one, 0), "{form:?}, row {row}");
            }
        }
    }

    #[test]
    fn elements_that_can_not_be_read_are_an_error() {
        let mut compactor = Compactor::new(CompactForm::Int8, [2, 4]);
        let failed = compactor.push(2, |_, _| anyhow::bail!("the file ends"));
        assert_eq!(failed.unwrap_err().to_string(), "the file ends");
    }
}
