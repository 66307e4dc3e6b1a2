//! Weights that aren't learned, held in fewer bits than they're computed with.

use std::{ops::Range, sync::Arc};

use anyhow::Result;
use burn::tensor::{DType, Device, ExecutionError, Int, Tensor, TensorData};
use half::{bf16, f16};

use super::moved;

/// Columns that share a scale in four bits.
pub const GROUP: usize = 32;

/// The version of products with compact matrices: the second adds them up in another order in the fast modes, and so does the
/// third, which reads several rows of a matrix at once.
pub const COMPACT_VERSION: u32 = 3;

/// What elements are held as.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum CompactForm {
    /// Two bytes: f32 without the last 16 bits of its fraction.
    Bf16,
    /// Two bytes: half precision.
    F16,
    /// One byte, and a scale for each row.
    Int8,
    /// Half a byte, and a scale in half precision for each [`GROUP`] of columns.
    Int4,
}

/// What a matrix is multiplied with, where its elements are codes of four bits.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum ActivationForm {
    /// As it was computed.
    #[default]
    F32,
    /// Integers from -127 to 127 times a step for each [`GROUP`] of columns, the largest of which is 127 steps away from 0, as
    /// llama.cpp has them (Q8_0). Products of a few rows are sums of integers then.
    Int8,
}

/// A matrix `[R, C]` in fewer bits, expanded to f32 only while it's used.
#[derive(Clone, Debug)]
pub struct Compact {
    encoding: Arc<Encoding>,
    activations: ActivationForm,
}

/// The stored elements.
#[derive(Debug)]
pub(super) enum Encoding {
    /// bfloat16 or half precision.
    Halves(Tensor<2>),
    /// Row `r` is `codes[r] * scales[r]`, with codes of one byte and scales `[R, 1]`.
    Int8 { codes: Tensor<2, Int>, scales: Tensor<2> },
    /// Column `c` of row `r` is `(code - 8) * scale`. A byte has two codes: of the 16 bytes of a group, byte `i` has column
    /// `i` in its lower half and column `i + 16` in its upper one, so that a vector of bytes gives two of neighbours. The
    /// scales, in half precision, are `[R, groups]`, or `[R, 1]` for whole rows. What columns there are past `columns` are 0.
    Int4 { codes: Tensor<2, Int>, scales: Tensor<2>, columns: usize },
}

/// The weight of a linear layer, `[out, in]`, or a table.
#[derive(Clone, Debug)]
#[expect(clippy::large_enum_variant, reason = "it lives for one call")]
pub enum Weight {
    /// In f32, trainable or frozen.
    Full(Tensor<2>),
    /// Frozen, in fewer bits.
    Compact(Compact),
}

impl From<Tensor<2>> for Weight {
    fn from(tensor: Tensor<2>) -> Self {
        Self::Full(tensor)
    }
}

impl From<Compact> for Weight {
    fn from(compact: Compact) -> Self {
        Self::Compact(compact)
    }
}

impl Encoding {
    fn scales(&self) -> Option<&Tensor<2>> {
        match self {
            Self::Halves(_) => None,
            Self::Int8 { scales, .. } | Self::Int4 { scales, .. } => Some(scales),
        }
    }
}

impl ActivationForm {
    /// All of them.
    pub const ALL: [Self; 2] = [Self::F32, Self::Int8];

    /// Its name.
    pub const fn name(self) -> &'static str {
        match self {
            Self::F32 => "f32",
            Self::Int8 => "int8",
        }
    }
}

impl CompactForm {
    /// Whether its elements are codes, which scales belong to.
    pub fn is_coded(self) -> bool {
        matches!(self, Self::Int8 | Self::Int4)
    }

    /// The types of its elements and of scales in fewer bits than f32.
    pub(super) fn dtypes(self) -> &'static [DType] {
        match self {
            Self::Bf16 => &[DType::BF16],
            Self::F16 => &[DType::F16],
            Self::Int8 => &[DType::I8],
            Self::Int4 => &[DType::U8, DType::F16],
        }
    }

    /// Bits of an element.
    pub fn bits(self) -> u32 {
        match self {
            Self::Bf16 | Self::F16 => 16,
            Self::Int8 => 8,
            Self::Int4 => 4,
        }
    }

    /// Bytes of a matrix `[rows, columns]`.
    pub fn bytes(self, [rows, columns]: [usize; 2]) -> u64 {
        let row = match self {
            Self::Bf16 | Self::F16 => columns * size_of::<bf16>(),
            Self::Int8 => columns + size_of::<f32>(),
            Self::Int4 => columns.div_ceil(GROUP) * (GROUP / 2 + size_of::<f16>()),
        };
        rows as u64 * row as u64
    }
}

impl Compact {
    /// Elements of 16 bits as they are, of one of the two types.
    pub fn halves(values: TensorData, device: &Device) -> Self {
        let dtype = values.dtype();
        Self::of(Encoding::Halves(Tensor::from_data(values, (device, dtype))))
    }

    /// Codes of eight bits, and a scale for each row.
    pub fn int8(codes: TensorData, scales: Vec<f32>, device: &Device) -> Self {
        let rows = scales.len();
        let codes = Tensor::from_data(codes, (device, DType::I8));
        let scales = Tensor::from_data(TensorData::new(scales, [rows, 1]), device);
        Self::of(Encoding::Int8 { codes, scales })
    }

    /// Codes of four bits, two a byte as [`Encoding`] has them, and scales `[R, groups]` or `[R, 1]`.
    pub fn int4(codes: TensorData, scales: TensorData, columns: usize, device: &Device) -> Self {
        let codes = Tensor::from_data(codes, (device, DType::U8));
        let scales = Tensor::from_data(scales, (device, DType::F16));
        Self::of(Encoding::Int4 { codes, scales, columns })
    }

    /// The rows of several, one after the other; `None` if they aren't held alike.
    pub fn stacked(parts: &[Self]) -> Option<Self> {
        if let [only] = parts {
            return Some(only.clone());
        }
        let across = |part: &Self| part.scales().map(|scales| scales.dims()[1]);
        let first = parts.first()?;
        let alike = |part: &Self| {
            part.form() == first.form() && part.dims()[1] == first.dims()[1] && across(part) == across(first)
        };
        if !parts.iter().all(alike) {
            return None;
        }
        let floats = |of: fn(&Encoding) -> Option<&Tensor<2>>| {
            let all: Option<Vec<Tensor<2>>> = parts.iter().map(|part| of(part.encoding()).cloned()).collect();
            Some(Tensor::cat(all?, 0))
        };
        let codes = || {
            let of = |part: &Self| match part.encoding() {
                Encoding::Int8 { codes, .. } | Encoding::Int4 { codes, .. } => Some(codes.clone()),
                Encoding::Halves(_) => None,
            };
            Some(Tensor::cat(parts.iter().map(of).collect::<Option<Vec<_>>>()?, 0))
        };
        let scales = || floats(|encoding| encoding.scales());
        Some(Self::of(match first.encoding() {
            Encoding::Halves(_) => Encoding::Halves(floats(|encoding| match encoding {
                Encoding::Halves(values) => Some(values),
                _ => None,
            })?),
            Encoding::Int8 { .. } => Encoding::Int8 { codes: codes()?, scales: scales()? },
            Encoding::Int4 { columns, .. } => Encoding::Int4 { codes: codes()?, scales: scales()?, columns: *columns },
        }))
    }

    /// The same on another device.
    ///
    /// # Errors
    /// The devices'.
    pub fn on(&self, device: &Device) -> Result<Self> {
        let moved = Self::of(match self.encoding() {
            Encoding::Halves(values) => Encoding::Halves(moved(values.clone(), device)?),
            Encoding::Int8 { codes, scales } => {
                Encoding::Int8 { codes: moved(codes.clone(), device)?, scales: moved(scales.clone(), device)? }
            }
            Encoding::Int4 { codes, scales, columns } => Encoding::Int4 {
                codes: moved(codes.clone(), device)?,
                scales: moved(scales.clone(), device)?,
                columns: *columns,
            },
        });
        Ok(moved.with_activations(self.activations))
    }

    fn of(encoding: Encoding) -> Self {
        Self { encoding: Arc::new(encoding), activations: ActivationForm::default() }
    }

    pub(super) fn encoding(&self) -> &Encoding {
        &self.encoding
    }

    /// What it's multiplied with.
    pub fn activations(&self) -> ActivationForm {
        self.activations
    }

    /// The same, multiplied with activations in this form where its elements are codes of four bits; nothing becomes better for
    /// it where they have more.
    pub fn with_activations(self, activations: ActivationForm) -> Self {
        if self.form() == CompactForm::Int4 { Self { activations, ..self } } else { self }
    }

    /// Where it lives.
    pub fn device(&self) -> Device {
        match self.encoding() {
            Encoding::Halves(values) => values.device(),
            Encoding::Int8 { codes, .. } | Encoding::Int4 { codes, .. } => codes.device(),
        }
    }

    /// What its elements are held as.
    pub fn form(&self) -> CompactForm {
        match self.encoding() {
            Encoding::Halves(values) if values.dtype() == DType::F16 => CompactForm::F16,
            Encoding::Halves(_) => CompactForm::Bf16,
            Encoding::Int8 { .. } => CompactForm::Int8,
            Encoding::Int4 { .. } => CompactForm::Int4,
        }
    }

    /// Rows and columns.
    pub fn dims(&self) -> [usize; 2] {
        match self.encoding() {
            Encoding::Halves(values) => values.dims(),
            Encoding::Int8 { codes, .. } => codes.dims(),
            Encoding::Int4 { codes, columns, .. } => [codes.dims()[0], *columns],
        }
    }

    /// The bytes that it takes.
    pub fn bytes(&self) -> usize {
        match self.encoding() {
            Encoding::Halves(values) => values.dims().iter().product::<usize>() * size_of::<bf16>(),
            Encoding::Int8 { codes, scales } => {
                codes.dims().iter().product::<usize>() + scales.dims()[0] * size_of::<f32>()
            }
            Encoding::Int4 { codes, scales, .. } => {
                let scales: usize = scales.dims().iter().product();
                codes.dims().iter().product::<usize>() + scales * size_of::<f16>()
            }
        }
    }

    /// The stored elements of some rows, halves or codes; `[rows, C]`, or `[C, rows]` if they are `transposed`, which codes
    /// of four bits can't be.
    ///
    /// # Errors
    /// The device's.
    pub fn data(&self, rows: Range<usize>, transposed: bool) -> Result<TensorData, ExecutionError> {
        match self.encoding() {
            Encoding::Halves(values) => {
                let part = values.clone().slice(rows);
                if transposed { part.transpose() } else { part }.try_into_data()
            }
            Encoding::Int8 { codes, .. } => {
                let part = codes.clone().slice(rows);
                if transposed { part.transpose() } else { part }.try_into_data()
            }
            Encoding::Int4 { codes, .. } => codes.clone().slice(rows).try_into_data(),
        }
    }

    /// The scales of codes, `[R, 1]` or `[R, groups]`; `None` where there are none.
    pub fn scales(&self) -> Option<&Tensor<2>> {
        self.encoding().scales()
    }

    /// These rows of it.
    pub(super) fn select(&self, rows: Tensor<1, Int>) -> Self {
        let codes = |codes: &Tensor<2, Int>| codes.clone().select(0, rows.clone());
        let floats = |floats: &Tensor<2>| floats.clone().select(0, rows.clone());
        Self::of(match self.encoding() {
            Encoding::Halves(values) => Encoding::Halves(floats(values)),
            Encoding::Int8 { codes: all, scales } => Encoding::Int8 { codes: codes(all), scales: floats(scales) },
            Encoding::Int4 { codes: all, scales, columns } => {
                Encoding::Int4 { codes: codes(all), scales: floats(scales), columns: *columns }
            }
        })
    }

    /// The matrix in f32.
    pub fn expand(&self) -> Tensor<2> {
        match self.encoding() {
            Encoding::Halves(values) => values.clone().cast(DType::F32),
            Encoding::Int8 { codes, scales } => codes.clone().float().cast(DType::F32) * scales.clone(),
            Encoding::Int4 { codes, scales, columns } => {
                let ([rows, width], scales) = (codes.dims(), scales.clone().cast(DType::F32));
                let groups = width / (GROUP / 2);
                let codes = codes.clone().float().cast(DType::F32).reshape([rows, groups, GROUP / 2]);
                let upper = codes.clone().div_scalar(16.0).floor();
                let lower = codes - upper.clone().mul_scalar(16.0);
                let codes = Tensor::cat(vec![lower, upper], 2).sub_scalar(8.0);
                let per_row = scales.dims()[1];
                let matrix = codes * scales.reshape([rows, per_row, 1]);
                matrix.reshape([rows, groups * GROUP]).slice([0..rows, 0..*columns])
            }
        }
    }
}
