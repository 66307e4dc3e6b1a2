//! What few rows are multiplied as.

use super::held::{CODES, Rows};
use crate::network::kernels::compact::GROUP;

/// What is multiplied, in the forms that loops want: rows as wide as whole groups of columns.
pub(super) struct Inputs {
    width: usize,
    values: Vec<f32>,
    scaled: Vec<Scaled>,
}

/// A row of it.
#[derive(Clone, Copy)]
pub(super) struct Input<'a> {
    pub(super) values: &'a [f32],
    /// The same in groups, for codes of four bits.
    pub(super) scaled: &'a [Scaled],
}

/// A group of columns as integers.
#[derive(Clone, Copy)]
pub(super) struct Scaled {
    /// Those of even columns, and then those of odd ones.
    pub(super) values: [i16; GROUP],
    /// What an integer of 1 stands for.
    pub(super) step: f32,
    /// -8 times what all of them stand for, since codes begin at 0 and not at -8.
    pub(super) offset: f32,
}

impl Scaled {
    fn new(group: &[f32; GROUP]) -> Self {
        let most = group.iter().fold(0.0_f32, |most, value| most.max(value.abs()));
        let is_sound = group.iter().all(|value| value.is_finite());
        // What isn't a number isn't one afterwards.
        let step = if is_sound { most / 32767.0 } else { f32::NAN };
        let inverse = if most > 0.0 && is_sound { 32767.0 / most } else { 0.0 };
        let value = |at: usize| (group[at % CODES * 2 + at / CODES] * inverse).round_ties_even() as i16;
        let values: [i16; GROUP] = std::array::from_fn(value);
        let sum: i32 = values.iter().map(|&value| i32::from(value)).sum();
        Self { values, step, offset: -8.0 * sum as f32 * step }
    }
}

impl Inputs {
    pub(super) fn new(x: &[f32], matrix: Rows) -> Self {
        let columns = matrix.columns();
        let width = columns.next_multiple_of(GROUP);
        let mut values = vec![0.0; x.len() / columns * width];
        for (to, from) in values.chunks_exact_mut(width).zip(x.chunks_exact(columns)) {
            to[..columns].copy_from_slice(from);
        }
        let groups = if matches!(matrix, Rows::Int4 { .. }) { values.as_chunks().0 } else { &[] };
        let scaled = groups.iter().map(Scaled::new).collect();
        Self { width, values, scaled }
    }

    pub(super) fn row(&self, row: usize) -> Input<'_> {
        let groups = if self.scaled.is_empty() { 0 } else { self.width / GROUP };
        Input { values: &self.values[row * self.width..][..self.width], scaled: &self.scaled[row * groups..][..groups] }
    }
}
