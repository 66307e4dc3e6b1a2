//! What matrices that aren't learned are held as.

use anyhow::{Result, anyhow};
use burn::tensor::Device;

use crate::{
    network::kernels::{Compact, CompactForm, GROUP},
    spec::WeightForm,
    support::Hinted,
};

/// What a matrix is to be held as.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Holding {
    /// In fewer bits than f32. What a checkpoint has in no more bits stays as it is.
    Form(CompactForm),
    /// As a checkpoint has it.
    Stored,
}

/// Whether parameters that are added are trainable, and what those that aren't are held as.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum ParameterMode {
    /// They have gradients.
    Trainable,
    /// They have none: the weights of linear layers in this form, all else in f32.
    Frozen(WeightForm),
    /// They have none, and tables have few bits, too: those of [`WeightForm::of_tables`].
    Held(WeightForm),
    /// They have none, and all matrices are as a checkpoint has them.
    Stored,
}

impl Holding {
    /// For a matrix of so many columns: those that don't make whole groups have a byte each instead of a half.
    pub(super) fn of_columns(self, columns: usize) -> Self {
        match self {
            Self::Form(CompactForm::Int4) if !columns.is_multiple_of(GROUP) => Self::Form(CompactForm::Int8),
            other => other,
        }
    }
}

impl ParameterMode {
    /// How the weights of linear layers are held; in f32 where nothing is said.
    pub(super) fn of_layers(self) -> Option<Holding> {
        match self {
            Self::Trainable => None,
            Self::Frozen(form) | Self::Held(form) => form.compact().map(Holding::Form),
            Self::Stored => Some(Holding::Stored),
        }
    }

    /// How tables are held.
    pub(super) fn of_tables(self) -> Option<Holding> {
        match self {
            Self::Trainable | Self::Frozen(_) => None,
            Self::Held(form) => form.of_tables().compact().map(Holding::Form),
            Self::Stored => Some(Holding::Stored),
        }
    }
}

/// Tells whether a device can hold weights in this form.
///
/// # Errors
/// Why it can't.
pub fn check_held(form: WeightForm, device: &Device) -> Result<()> {
    let Some(compact) = form.compact() else { return Ok(()) };
    Compact::check(compact, device).map_err(|error| {
        let message = format!("weights can't be held in {} there: {error:#}", form.name());
        anyhow!(Hinted::with(message, "`weights: f32` can; so can the CPU, in every form"))
    })
}

impl From<CompactForm> for WeightForm {
    fn from(form: CompactForm) -> Self {
        match form {
            CompactForm::Bf16 => Self::Bf16,
            CompactForm::F16 => Self::F16,
            CompactForm::Int8 => Self::Int8,
            CompactForm::Int4 => Self::Int4,
        }
    }
}

impl WeightForm {
    /// What tables are held as, where linear layers are in this form: in four bits a word would be told by too little.
    pub fn of_tables(self) -> Self {
        if self == Self::Int4 { Self::Int8 } else { self }
    }

    /// Bytes of a matrix in this form.
    pub fn bytes(self, [rows, columns]: [usize; 2]) -> u64 {
        match self.compact().map(|form| Holding::Form(form).of_columns(columns)) {
            Some(Holding::Form(form)) => form.bytes([rows, columns]),
            _ => 4 * rows as u64 * columns as u64,
        }
    }

    /// As kernels have it; `None` for f32.
    pub(super) fn compact(self) -> Option<CompactForm> {
        match self {
            Self::F32 => None,
            Self::Bf16 => Some(CompactForm::Bf16),
            Self::F16 => Some(CompactForm::F16),
            Self::Int8 => Some(CompactForm::Int8),
            Self::Int4 => Some(CompactForm::Int4),
        }
    }
}
