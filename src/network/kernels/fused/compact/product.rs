//! Products with a compact matrix: of a few rows as they are, of many by expanding a few rows of the matrix at a time, while
//! they are in the cache.

use burn::backend::flex::FlexTensor;
use rayon::prelude::*;

use super::{expand::expand_row, few, held::Held};
use crate::{
    network::kernels::{
        compact::Compact,
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
    if tokens * width * columns == 0 {
        out.fill(0.0);
    } else if few {
        few::multiply(elements(x), from, &mut out);
    } else {
        let x = Matrix::new(elements(x), tokens, columns, columns);
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
