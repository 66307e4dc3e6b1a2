//! Products of many rows with a compact matrix in vectors of AVX2: some of its rows and columns are expanded at a time, into
//! the cache, and multiplied as they lie there. A product of packed blocks would copy them once more, which costs as much as
//! ten rows do.
#![expect(unsafe_code)]

use std::arch::x86_64::*;

use rayon::prelude::*;

use super::{avx2, expand::expand_row, held::Rows};
use crate::network::kernels::{compact::GROUP, fused::matrix::Shared, simd};

/// Columns that are expanded at a time, of each row.
const COLUMNS: usize = 512;
/// Rows of the matrix that a task has: with their columns they fill a part of the second cache.
const TILE: usize = 48;
/// Rows of the one matrix and of the other whose products are summed at a time: as many sums as registers hold.
const AT_ONCE: [usize; 2] = [4, 3];

/// Whether these loops are the best for this matrix: where vectors are longer, products of packed blocks are faster.
pub(super) fn fits(matrix: Rows) -> bool {
    avx2::available() && simd::level() < 4 && matrix.columns().is_multiple_of(GROUP)
}

/// `x matrixᵀ`: `[T, C]` to `[T, R]`.
pub(super) fn multiply(x: &[f32], matrix: Rows, out: &mut [f32]) {
    let columns = matrix.columns();
    let tokens = x.len() / columns;
    let width = out.len() / tokens;
    let shared = Shared::new(out, width);
    let room = || (vec![0.0; TILE * COLUMNS], Vec::new());
    (0..width.div_ceil(TILE)).into_par_iter().for_each_init(room, |(expanded, sums), index| {
        let first = index * TILE;
        let count = TILE.min(width - first);
        sums.clear();
        sums.resize(tokens * count, 0.0);
        for column in (0..columns).step_by(COLUMNS) {
            let part = column..columns.min(column + COLUMNS);
            let expanded = &mut expanded[..count * part.len()];
            for (row, out) in expanded.chunks_exact_mut(part.len()).enumerate() {
                expand_row(matrix.row(first + row).part(part.clone()), out);
            }
            for (x, sums) in x.chunks(AT_ONCE[0] * columns).zip(sums.chunks_mut(AT_ONCE[0] * count)) {
                let row = |at: usize| &x[at * columns..][part.clone()];
                // SAFETY: the processor has what they're compiled for, as `fits` has found.
                unsafe {
                    match sums.len() / count {
                        4 => add([row(0), row(1), row(2), row(3)], expanded, sums),
                        3 => add([row(0), row(1), row(2)], expanded, sums),
                        2 => add([row(0), row(1)], expanded, sums),
                        _ => add([row(0)], expanded, sums),
                    }
                }
            }
        }
        // SAFETY: no other task has these columns, and this one has no other tile of them.
        let mut place = unsafe { shared.tile(0, tokens, first, count) };
        sums.chunks_exact(count).enumerate().for_each(|(token, sums)| place.row(token).copy_from_slice(sums));
    });
}

/// Adds the products of `T` rows with all rows of `matrix`, which are as wide, to `sums [T, rows]`.
#[target_feature(enable = "avx2,fma,f16c")]
fn add<const T: usize>(x: [&[f32]; T], matrix: &[f32], sums: &mut [f32]) {
    let (width, count) = (x[0].len(), sums.len() / T);
    let threes = count - count % AT_ONCE[1];
    for row in (0..threes).step_by(AT_ONCE[1]) {
        let rows = std::array::from_fn::<_, 3, _>(|at| &matrix[(row + at) * width..][..width]);
        put(products(x, rows), sums, count, row);
    }
    for row in threes..count {
        put(products(x, [&matrix[row * width..][..width]]), sums, count, row);
    }
}

/// Adds products to the sums `[T, count]` of rows from one on.
#[inline(always)]
fn put<const T: usize, const R: usize>(products: [[f32; R]; T], sums: &mut [f32], count: usize, row: usize) {
    for (token, products) in products.iter().enumerate() {
        sums[token * count + row..].iter_mut().zip(products).for_each(|(sum, product)| *sum += product);
    }
}

/// The products of each of `T` rows with each of `R`, all of which are as wide: a number of eights.
#[inline]
#[target_feature(enable = "avx2,fma,f16c")]
fn products<const T: usize, const R: usize>(x: [&[f32]; T], rows: [&[f32]; R]) -> [[f32; R]; T] {
    let width = x[0].len();
    assert!(x.iter().chain(&rows).all(|row| row.len() == width), "rows of different widths are multiplied");
    let mut sums = [[_mm256_setzero_ps(); R]; T];
    for at in (0..width - width % 8).step_by(8) {
        // SAFETY: every row has eight elements from there on.
        let eight = |row: &[f32]| unsafe { _mm256_loadu_ps(row.as_ptr().add(at)) };
        let rows = rows.map(eight);
        for (x, sums) in x.iter().zip(&mut sums) {
            let x = eight(x);
            for (row, sum) in rows.iter().zip(sums) {
                *sum = _mm256_fmadd_ps(x, *row, *sum);
            }
        }
    }
    sums.map(|sums| sums.map(|sum| avx2::total(sum)))
}
