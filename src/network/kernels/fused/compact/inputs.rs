//! What few rows are multiplied as.

use super::held::{CODES, Rows};
use crate::network::kernels::{compact::GROUP, simd::rounded};

/// What is multiplied, in the forms that loops want: rows as wide as whole groups of columns.
pub(super) struct Inputs {
    width: usize,
    values: Vec<f32>,
    scaled: Vec<[i16; GROUP]>,
    steps: Vec<f32>,
    offsets: Vec<f32>,
}

/// A row of it.
#[derive(Clone, Copy)]
pub(super) struct Input<'a> {
    pub(super) values: &'a [f32],
    /// For codes of four bits, groups as integers: those of even columns, and then those of odd ones.
    pub(super) scaled: &'a [[i16; GROUP]],
    /// What a group's integer of 1 stands for.
    pub(super) steps: &'a [f32],
    /// -8 times what all of a group stand for, since codes begin at 0 and not at -8.
    pub(super) offsets: &'a [f32],
}

impl Inputs {
    pub(super) fn new(x: &[f32], matrix: Rows) -> Self {
        let columns = matrix.columns();
        let width = columns.next_multiple_of(GROUP);
        let mut values = vec![0.0; x.len() / columns * width];
        for (to, from) in values.chunks_exact_mut(width).zip(x.chunks_exact(columns)) {
            to[..columns].copy_from_slice(from);
        }
        let mut inputs = Self { width, values, scaled: Vec::new(), steps: Vec::new(), offsets: Vec::new() };
        if matches!(matrix, Rows::Int4 { .. }) {
            for group in inputs.values.as_chunks().0 {
                let (scaled, step) = scaled(group);
                let sum: i32 = scaled.iter().map(|&value| i32::from(value)).sum();
                inputs.scaled.push(scaled);
                inputs.steps.push(step);
                inputs.offsets.push(-8.0 * sum as f32 * step);
            }
        }
        inputs
    }

    pub(super) fn row(&self, row: usize) -> Input<'_> {
        let groups = if self.scaled.is_empty() { 0 } else { self.width / GROUP };
        let (first, end) = (row * groups, (row + 1) * groups);
        Input {
            values: &self.values[row * self.width..][..self.width],
            scaled: &self.scaled[first..end],
            steps: &self.steps[first..end],
            offsets: &self.offsets[first..end],
        }
    }
}

/// A group in 16 bits, and what 1 stands for.
fn scaled(group: &[f32; GROUP]) -> ([i16; GROUP], f32) {
    let most = group.iter().fold(0.0_f32, |most, value| most.max(value.abs()));
    let is_sound = group.iter().all(|value| value.is_finite());
    // What isn't a number isn't one afterwards.
    let step = if is_sound { most / 32767.0 } else { f32::NAN };
    let inverse = if most > 0.0 && is_sound { 32767.0 / most } else { 0.0 };
    (std::array::from_fn(|at| rounded(group[at % CODES * 2 + at / CODES] * inverse) as i16), step)
}
