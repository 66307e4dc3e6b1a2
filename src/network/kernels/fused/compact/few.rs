//! Products of a few rows with a compact matrix that read each of its elements once and expand none in memory: what writing
//! a token costs is reading the model.
//!
//! Sums are in f32. With codes of four bits, processors that multiply integers of 16 bits get the inputs as such, rounded to
//! 1/32767 of the largest of 32 columns: a two thousandth of what the codes themselves are rounded by. Portable mode doesn't
//! come here.

use rayon::prelude::*;

#[cfg(target_arch = "x86_64")]
use super::avx2;
use super::{CODES, Row, Rows, plain};
use crate::network::kernels::compact::GROUP;

/// Rows that are multiplied at a time. Their sums stay in registers.
const AT_ONCE: usize = 4;

/// Rows of the matrix that a thread takes at a time.
const PART: usize = 32;

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
    fn new(x: &[f32], matrix: Rows) -> Self {
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

    fn row(&self, row: usize) -> Input<'_> {
        let groups = if self.scaled.is_empty() { 0 } else { self.width / GROUP };
        Input { values: &self.values[row * self.width..][..self.width], scaled: &self.scaled[row * groups..][..groups] }
    }
}

/// `x matrixᵀ` for a few rows `x [T, C]`: `out` is `[T, R]`.
pub(super) fn multiply(x: &[f32], matrix: Rows, out: &mut [f32]) {
    let tokens = x.len() / matrix.columns();
    let rows = out.len() / tokens;
    let inputs = Inputs::new(x, matrix);
    let part = |out: &mut [f32], part: usize| products(&inputs, tokens, matrix, part * PART, out);
    if tokens == 1 {
        out.par_chunks_mut(PART).enumerate().for_each(|(index, out)| part(out, index));
        return;
    }
    let mut across = vec![0.0; out.len()];
    across.par_chunks_mut(PART * tokens).enumerate().for_each(|(index, out)| part(out, index));
    for (token, out) in out.chunks_exact_mut(rows).enumerate() {
        out.iter_mut().zip(across[token..].iter().step_by(tokens)).for_each(|(out, value)| *out = *value);
    }
}

/// Products with the rows of the matrix from `first` on: `out` is `[rows, tokens]`.
fn products(inputs: &Inputs, tokens: usize, matrix: Rows, first: usize, out: &mut [f32]) {
    for (row, out) in out.chunks_exact_mut(tokens).enumerate() {
        let row = matrix.row(first + row);
        for (part, out) in out.chunks_mut(AT_ONCE).enumerate() {
            let input = |at: usize| inputs.row(part * AT_ONCE + at);
            match out {
                [a] => [*a] = of_row(row, [input(0)]),
                [a, b] => [*a, *b] = of_row(row, [input(0), input(1)]),
                [a, b, c] => [*a, *b, *c] = of_row(row, [input(0), input(1), input(2)]),
                [a, b, c, d] => [*a, *b, *c, *d] = of_row(row, [input(0), input(1), input(2), input(3)]),
                _ => {}
            }
        }
    }
}

fn of_row<const T: usize>(row: Row, x: [Input; T]) -> [f32; T] {
    #[cfg(target_arch = "x86_64")]
    if avx2::available() {
        // SAFETY: the processor has what it's compiled for.
        #[expect(unsafe_code)]
        return unsafe { avx2::products(row, x) };
    }
    x.map(|x| plain::product(row, x.values))
}
