//! Quantized storage: frozen matrices in bf16 or int8, computed with in f32.

use std::{ops::Range, sync::Arc};

use anyhow::Result;
use burn::tensor::{DType, Device, ExecutionError, Int, Tensor, TensorData};
use half::bf16;

use super::moved;

/// A frozen matrix `[R, C]` in bf16 or int8, expanded to f32 only while it's used.
#[derive(Clone, Debug)]
pub struct Compact(Arc<Encoding>);

/// The stored elements.
#[derive(Debug)]
#[expect(clippy::large_enum_variant, reason = "each stands for thousands of elements")]
pub(super) enum Encoding {
    /// Two bytes per element: f32 without the last 16 bits of its fraction, rounded to nearest even.
    Bf16(Tensor<2>),
    /// One byte per element: row `r` is `codes[r] * scales[r]`, with codes from -127 to 127 and scales `[R, 1]`.
    Int8 { codes: Tensor<2, Int>, scales: Tensor<2> },
}

/// The weight of a linear layer, `[out, in]`.
#[derive(Clone, Debug)]
#[expect(clippy::large_enum_variant, reason = "it lives for one call")]
pub enum Weight {
    /// In f32, trainable or frozen.
    Full(Tensor<2>),
    /// Frozen, in bf16 or int8.
    Compact(Compact),
}

impl From<Tensor<2>> for Weight {
    fn from(tensor: Tensor<2>) -> Self {
        Self::Full(tensor)
    }
}

impl Compact {
    /// Rounds f32 `values`, row by row, to bfloat16.
    pub fn bf16(values: &[f32], shape: [usize; 2], device: &Device) -> Self {
        let rounded: Vec<bf16> = values.iter().map(|&value| bf16::from_f32(value)).collect();
        let values = Tensor::from_data(TensorData::new(rounded, shape), (device, DType::BF16));
        Self(Arc::new(Encoding::Bf16(values)))
    }

    /// Rounds f32 `values`, row by row, to 255 steps between the row's largest magnitude and its negative ("vector-wise
    /// absmax", Dettmers et al. 2022, <https://arxiv.org/abs/2208.07339>).
    pub fn int8(values: &[f32], [rows, columns]: [usize; 2], device: &Device) -> Self {
        let mut codes = Vec::with_capacity(values.len());
        let mut scales = Vec::with_capacity(rows);
        for row in values.chunks_exact(columns.max(1)) {
            let scale = row.iter().fold(0.0_f32, |most, value| most.max(value.abs())) / 127.0;
            let inverse = if scale > 0.0 { scale.recip() } else { 0.0 };
            // The cast saturates.
            codes.extend(row.iter().map(|value| (value * inverse).round_ties_even() as i8));
            scales.push(scale);
        }
        let codes = Tensor::from_data(TensorData::new(codes, [rows, columns]), (device, DType::I8));
        let scales = Tensor::from_data(TensorData::new(scales, [rows, 1]), device);
        Self(Arc::new(Encoding::Int8 { codes, scales }))
    }

    /// The same on another device.
    ///
    /// # Errors
    /// The devices'.
    pub fn on(&self, device: &Device) -> Result<Self> {
        Ok(Self(Arc::new(match self.encoding() {
            Encoding::Bf16(values) => Encoding::Bf16(moved(values.clone(), device)?),
            Encoding::Int8 { codes, scales } => {
                Encoding::Int8 { codes: moved(codes.clone(), device)?, scales: moved(scales.clone(), device)? }
            }
        })))
    }

    pub(super) fn encoding(&self) -> &Encoding {
        &self.0
    }

    /// Rows and columns.
    pub fn dims(&self) -> [usize; 2] {
        match self.encoding() {
            Encoding::Bf16(values) => values.dims(),
            Encoding::Int8 { codes, .. } => codes.dims(),
        }
    }

    /// The bytes that it takes.
    pub fn bytes(&self) -> usize {
        let [rows, columns] = self.dims();
        match self.encoding() {
            Encoding::Bf16(_) => rows * columns * size_of::<bf16>(),
            Encoding::Int8 { .. } => rows * (columns + size_of::<f32>()),
        }
    }

    /// The stored elements of some rows, bf16 or int8 codes; `[rows, C]`, or `[C, rows]` if they are transposed.
    ///
    /// # Errors
    /// The device's.
    pub fn data(&self, rows: Range<usize>, transposed: bool) -> Result<TensorData, ExecutionError> {
        match self.encoding() {
            Encoding::Bf16(values) => {
                let part = values.clone().slice(rows);
                if transposed { part.transpose() } else { part }.try_into_data()
            }
            Encoding::Int8 { codes, .. } => {
                let part = codes.clone().slice(rows);
                if transposed { part.transpose() } else { part }.try_into_data()
            }
        }
    }

    /// The scales `[R, 1]` of codes; `None` where there are none.
    pub fn scales(&self) -> Option<&Tensor<2>> {
        match self.encoding() {
            Encoding::Bf16(_) => None,
            Encoding::Int8 { scales, .. } => Some(scales),
        }
    }

    /// The matrix in f32.
    pub fn expand(&self) -> Tensor<2> {
        match self.encoding() {
            Encoding::Bf16(values) => values.clone().cast(DType::F32),
            Encoding::Int8 { codes, scales } => codes.clone().float().cast(DType::F32) * scales.clone(),
        }
    }
}
