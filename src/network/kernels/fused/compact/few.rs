//! Products of a few rows with a compact matrix that read each of its elements once and expand none in memory: what writing
//! a token costs is reading the model.
//!
//! Sums are in f32. With codes of four bits, processors that multiply integers of 16 bits get the inputs as such, rounded to
//! 1/32767 of the largest of 32 columns: a two thousandth of what the codes themselves are rounded by. Where activations are to
//! have eight bits they have them on every processor. Portable mode doesn't come here.

use rayon::prelude::*;

#[cfg(target_arch = "x86_64")]
use super::avx2;
use super::{
    held::Rows,
    inputs::{Input, Inputs},
    plain,
};
use crate::network::kernels::compact::ActivationForm;

/// Rows that are multiplied at a time. Their sums stay in registers.
const AT_ONCE: usize = 4;

/// Rows of the matrix that a thread takes at a time.
const PART: usize = 32;

/// `x matrixᵀ` for a few rows `x [T, C]`: `out` is `[T, R]`.
pub(super) fn multiply(x: &[f32], matrix: Rows, activations: ActivationForm, out: &mut [f32]) {
    let tokens = x.len() / matrix.columns();
    let rows = out.len() / tokens;
    let inputs = Inputs::new(x, matrix, activations);
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
    if tokens == 1 {
        let (fours, rest) = out.as_chunks_mut::<AT_ONCE>();
        for (row, out) in (first..).step_by(AT_ONCE).zip(fours.iter_mut()) {
            *out = of_rows(matrix, row, [inputs.row(0)]).map(|[product]| product);
        }
        for (row, out) in (first + AT_ONCE * fours.len()..).zip(rest) {
            [[*out]] = of_rows(matrix, row, [inputs.row(0)]);
        }
        return;
    }
    for (row, out) in (first..).zip(out.chunks_exact_mut(tokens)) {
        for (part, out) in out.chunks_mut(AT_ONCE).enumerate() {
            let input = |at: usize| inputs.row(part * AT_ONCE + at);
            match out {
                [a] => [[*a]] = of_rows(matrix, row, [input(0)]),
                [a, b] => [[*a, *b]] = of_rows(matrix, row, [input(0), input(1)]),
                [a, b, c] => [[*a, *b, *c]] = of_rows(matrix, row, [input(0), input(1), input(2)]),
                [a, b, c, d] => [[*a, *b, *c, *d]] = of_rows(matrix, row, [input(0), input(1), input(2), input(3)]),
                _ => {}
            }
        }
    }
}

/// Products of `R` rows of the matrix from `first` on with `T` rows.
fn of_rows<const R: usize, const T: usize>(matrix: Rows, first: usize, x: [Input; T]) -> [[f32; T]; R] {
    #[cfg(target_arch = "x86_64")]
    if avx2::available() {
        // SAFETY: the processor has what it's compiled for.
        #[expect(unsafe_code)]
        return unsafe { avx2::products(matrix, first, x) };
    }
    std::array::from_fn(|row| x.map(|x| plain::product(matrix.row(first + row), x.values)))
}
