//! Rounding of weights to fewer bits, some rows at a time, so that all of them never exist in f32.

use burn::tensor::{Bytes, DType, Device, TensorData};
use half::{bf16, f16};
use rayon::prelude::*;

use super::{
    compact::{Compact, CompactForm, GROUP},
    simd::{LANES, rounded, simd},
};

/// A compact matrix in the making.
pub struct Compactor {
    form: CompactForm,
    shape: [usize; 2],
    /// Bytes of a row's elements.
    stride: usize,
    bytes: Vec<u8>,
    /// Scales of whole rows, in eight bits.
    scales: Vec<f32>,
    /// Scales of groups, in four bits.
    group_scales: Vec<f16>,
}

impl Compactor {
    /// Of a matrix of this shape, with no rows yet.
    pub fn new(form: CompactForm, shape: [usize; 2]) -> Self {
        let [rows, columns] = shape;
        let (stride, scales, groups) = match form {
            CompactForm::Bf16 | CompactForm::F16 => (2 * columns, 0, 0),
            CompactForm::Int8 => (columns, 1, 0),
            CompactForm::Int4 => (columns.div_ceil(GROUP) * GROUP / 2, 0, columns.div_ceil(GROUP)),
        };
        Self {
            form,
            shape,
            stride,
            bytes: Vec::with_capacity(rows * stride),
            scales: Vec::with_capacity(rows * scales),
            group_scales: Vec::with_capacity(rows * groups),
        }
    }

    /// Adds whole rows in f32.
    pub fn push(&mut self, values: &[f32]) {
        let columns = self.shape[1];
        if columns == 0 {
            return;
        }
        let (rows, before) = (values.len() / columns, self.bytes.len());
        self.bytes.resize(before + rows * self.stride, 0);
        let parts = self.bytes[before..].par_chunks_exact_mut(self.stride).zip(values.par_chunks_exact(columns));
        match self.form {
            CompactForm::Bf16 => parts.for_each(|(out, row)| halves(row, out, |value| bf16::from_f32(value).to_bits())),
            CompactForm::F16 => parts.for_each(|(out, row)| halves(row, out, |value| f16::from_f32(value).to_bits())),
            CompactForm::Int8 => {
                let scales: Vec<f32> = parts.map(|(out, row)| int8(row, out)).collect();
                self.scales.extend(scales);
            }
            CompactForm::Int4 => {
                let (groups, before) = (columns.div_ceil(GROUP), self.group_scales.len());
                self.group_scales.resize(before + rows * groups, f16::ZERO);
                let scales = self.group_scales[before..].par_chunks_exact_mut(groups);
                parts.zip(scales).for_each(|((out, row), scales)| int4(row, out, scales));
            }
        }
    }

    /// The matrix, once all rows are there.
    pub fn finish(self, device: &Device) -> Compact {
        let Self { form, shape: [rows, columns], stride, bytes, scales, group_scales } = self;
        let data = |shape: [usize; 2], dtype| TensorData::from_bytes(Bytes::from_bytes_vec(bytes), shape, dtype);
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
    /// Rounds f32 `values`, row by row.
    pub fn new(form: CompactForm, values: &[f32], shape: [usize; 2], device: &Device) -> Self {
        let mut compactor = Compactor::new(form, shape);
        compactor.push(values);
        compactor.finish(device)
    }
}

fn halves(row: &[f32], out: &mut [u8], bits: impl Fn(f32) -> u16) {
    for (out, &value) in out.as_chunks_mut().0.iter_mut().zip(row) {
        *out = bits(value).to_ne_bytes();
    }
}

/// The least and the greatest of some numbers, and of 0.
#[inline(always)]
fn extremes(numbers: &[f32]) -> (f32, f32) {
    let (mut least, mut most) = ([0.0f32; LANES], [0.0f32; LANES]);
    let (chunks, rest) = numbers.as_chunks::<LANES>();
    for chunk in chunks {
        for lane in 0..LANES {
            least[lane] = if chunk[lane] < least[lane] { chunk[lane] } else { least[lane] };
            most[lane] = if chunk[lane] > most[lane] { chunk[lane] } else { most[lane] };
        }
    }
    let least = least.iter().chain(rest).fold(0.0f32, |least, &x| if x < least { x } else { least });
    let most = most.iter().chain(rest).fold(0.0f32, |most, &x| if x > most { x } else { most });
    (least, most)
}

simd! {
    /// Rounds a row to 255 steps between its largest magnitude and its negative ("vector-wise absmax", Dettmers et al. 2022,
    /// <https://arxiv.org/abs/2208.07339>), and returns its scale.
    fn int8(row: &[f32], codes: &mut [u8]) -> f32 {
        let (least, most) = extremes(row);
        let scale = most.max(-least) / 127.0;
        let inverse = if scale > 0.0 { scale.recip() } else { 0.0 };
        for (code, value) in codes.iter_mut().zip(row) {
            *code = rounded(value * inverse).clamp(-128, 127) as u8;
        }
        scale
    }
}

simd! {
    /// Rounds the values of each group of a row to 16 steps, of which the one furthest from 0 is the value with the largest
    /// magnitude (`Q4_0` of ggml).
    fn int4(row: &[f32], codes: &mut [u8], scales: &mut [f16]) {
        for ((values, codes), scale) in row.chunks(GROUP).zip(codes.chunks_exact_mut(GROUP / 2)).zip(scales) {
            let (least, most) = extremes(values);
            *scale = f16::from_f32(if most > -least { most } else { least } / -8.0);
            let step = scale.to_f32();
            let inverse = if step == 0.0 { 0.0 } else { step.recip() };
            let mut group = [0.0; GROUP];
            group[..values.len()].copy_from_slice(values);
            let mut numbers = [0; GROUP];
            for at in 0..GROUP {
                numbers[at] = (rounded(group[at] * inverse) + 8).clamp(0, 15);
            }
            for at in 0..GROUP / 2 {
                codes[at] = (numbers[at] | numbers[at + GROUP / 2] << 4) as u8;
            }
        }
    }
}
