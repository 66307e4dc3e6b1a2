//! Products with a compact matrix: of a few rows as they are, of many by expanding a few rows of the matrix at a time, while
//! they are in the cache.

use std::borrow::Cow;

use burn::backend::flex::FlexTensor;
use rayon::prelude::*;

#[cfg(target_arch = "x86_64")]
use super::many;
use super::{
    expand::expand_row,
    few,
    held::{Held, Rows},
    inputs::rounded_to_int8,
};
use crate::{
    network::kernels::{
        compact::{ActivationForm, Compact},
        fused::{
            buffer::{room, tensor},
            kernel::{elements, shape},
            matrix::{self, By, Matrix, Shared, Store},
            rows,
        },
    },
    support::arithmetic::Arithmetic,
};

/// Rows that count as few.
const FEW: usize = 8;

/// Rows of the matrix that are expanded at a time, at most.
const TILE: usize = 96;

/// Elements that they may have together, if that's more than some rows.
const TILE_ELEMENTS: usize = 1 << 19;

/// Columns of the matrix that a task of the backward pass has: whole groups.
const ACROSS: usize = 512;

/// Which of the two products.
#[derive(Clone, Copy, Eq, PartialEq)]
enum Pass {
    Forward,
    Backward,
}

/// Products of many rows by loops for them, where there are any for this processor and this matrix; tells whether.
fn many(pass: Pass, x: &[f32], matrix: Rows, out: &mut [f32]) -> bool {
    #[cfg(target_arch = "x86_64")]
    if Arithmetic::current() == Arithmetic::Fast && many::fits(matrix) {
        match pass {
            Pass::Forward => many::multiply(x, matrix, out),
            Pass::Backward => many::multiply_back(x, matrix, out),
        }
        return true;
    }
    let _ = (pass, x, matrix, out);
    false
}

/// `x matrixᵀ + bias`: `[T, C]` to `[T, R]`.
pub(in crate::network::kernels::fused) fn multiply(
    x: &FlexTensor,
    matrix: &Compact,
    bias: Option<&FlexTensor>,
) -> FlexTensor {
    let ([tokens, columns], [width, _]) = (shape(x), matrix.dims());
    let held = Held::new(matrix);
    let from = held.rows(columns);
    let mut out = room(tokens * width);
    // In portable mode all products are summed in one order.
    let few = tokens <= FEW && Arithmetic::current() == Arithmetic::Fast;
    let x = match matrix.activations() {
        ActivationForm::Int8 if !few => Cow::Owned(rounded_to_int8(elements(x), columns)),
        _ => Cow::Borrowed(elements(x)),
    };
    if tokens * width * columns == 0 {
        out.fill(0.0);
    } else if few {
        few::multiply(&x, from, matrix.activations(), &mut out);
    } else if !many(Pass::Forward, &x, from, &mut out) {
        let x = Matrix::new(&x, tokens, columns, columns);
        let tile = (TILE_ELEMENTS / columns).clamp(16, TILE);
        let shared = Shared::new(&mut out, width);
        (0..width.div_ceil(tile)).into_par_iter().for_each_init(Vec::new, |expanded: &mut Vec<f32>, index| {
            let first = index * tile;
            let count = tile.min(width - first);
            expanded.resize(count * columns, 0.0);
            let all = expanded.chunks_exact_mut(columns).enumerate();
            all.for_each(|(row, out)| expand_row(from.row(first + row), out));
            let rows = Matrix::new(expanded, count, columns, columns);
            // SAFETY: no other task has these columns, and this one has no other tile of them.
            #[expect(unsafe_code)]
            let place = unsafe { shared.tile(0, tokens, first, count) };
            matrix::multiply(place, Store::Replace, 1.0, x, rows.t(), By::One);
        });
    }
    if let Some(bias) = bias {
        let bias = elements(bias);
        out.par_chunks_mut(width.max(1)).with_min_len(rows::PART).for_each(|row| rows::add(row, bias));
    }
    tensor(out, [tokens, width])
}

/// `gradient matrix`, which is the gradient of what was multiplied: `[T, R]` to `[T, C]`.
pub(in crate::network::kernels::fused) fn multiply_back(gradient: &FlexTensor, matrix: &Compact) -> FlexTensor {
    let ([tokens, rows], [_, columns]) = (shape(gradient), matrix.dims());
    let held = Held::new(matrix);
    let (from, gradient) = (held.rows(columns), elements(gradient));
    let mut out = room(tokens * columns);
    if tokens * rows * columns == 0 {
        out.fill(0.0);
        return tensor(out, [tokens, columns]);
    }
    if many(Pass::Backward, gradient, from, &mut out) {
        return tensor(out, [tokens, columns]);
    }
    let shared = Shared::new(&mut out, columns);
    // In portable mode all products of a number are summed in one order.
    let tile = if Arithmetic::current() == Arithmetic::Fast { TILE } else { rows };
    (0..columns.div_ceil(ACROSS)).into_par_iter().for_each_init(Vec::new, |expanded: &mut Vec<f32>, index| {
        let part = index * ACROSS..columns.min((index + 1) * ACROSS);
        for first in (0..rows).step_by(tile) {
            let count = tile.min(rows - first);
            expanded.resize(count * part.len(), 0.0);
            for (row, out) in expanded.chunks_exact_mut(part.len()).enumerate() {
                expand_row(from.row(first + row).part(part.clone()), out);
            }
            let store = if first == 0 { Store::Replace } else { Store::Add };
            let gradient = Matrix::new(&gradient[first..], tokens, count, rows);
            let expanded = Matrix::new(expanded, count, part.len(), part.len());
            // SAFETY: no other task has these columns, and this one has no other tile of them.
            #[expect(unsafe_code)]
            let place = unsafe { shared.tile(0, tokens, part.start, part.len()) };
            matrix::multiply(place, store, 1.0, gradient, expanded, By::One);
        }
    });
    tensor(out, [tokens, columns])
}
