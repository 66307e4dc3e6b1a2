//! Products of many rows with a compact matrix in vectors of AVX2: some of its rows and columns are expanded at a time into a
//! panel in the first cache, laid so that sums need no adding up across a vector, and multiplied as they lie there (Goto and
//! van de Geijn 2008, <https://doi.org/10.1145/1356052.1356053>, without a copy of the matrix in f32).
#![expect(unsafe_code)]

use std::arch::x86_64::*;

use rayon::prelude::*;

use super::{avx2, expand::expand_row, held::Rows};
use crate::network::kernels::{compact::GROUP, fused::matrix::Shared, simd};

/// Elements of a vector.
const LANES: usize = 8;
/// Results that a panel gives each row,
const PANEL: usize = 2 * LANES;
/// of sums over so many products: it fills half of the first cache.
const DEPTH: usize = 256;
/// Rows that are multiplied with a panel at a time: with its vectors, as many sums as registers hold.
const BLOCK: usize = 6;
/// Panels of the backward pass that are expanded together: with their [`DEPTH`] they fill a part of the second cache.
const ACROSS: usize = 16;

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
    let blocks = blocks(x, columns);
    let room = || (vec![0.0; PANEL * DEPTH], vec![0.0; PANEL * DEPTH], vec![0.0; tokens * PANEL]);
    (0..width.div_ceil(PANEL)).into_par_iter().for_each_init(room, |(expanded, panel, sums), index| {
        let first = index * PANEL;
        let count = PANEL.min(width - first);
        sums.fill(0.0);
        for column in (0..columns).step_by(DEPTH) {
            let part = column..columns.min(column + DEPTH);
            let (expanded, panel) = (&mut expanded[..PANEL * part.len()], &mut panel[..PANEL * part.len()]);
            // Beyond the last row of the matrix there's what another panel left, and nobody reads the sums.
            for (row, out) in expanded.chunks_exact_mut(part.len()).take(count).enumerate() {
                expand_row(matrix.row(first + row).part(part.clone()), out);
            }
            // Rows lie far from each other, so that the processor doesn't see what comes next.
            let (next, rows) = match part.end < columns {
                true => (part.end..columns.min(part.end + DEPTH), first..first + count),
                false => (0..columns.min(DEPTH), width.min(first + PANEL)..width.min(first + 2 * PANEL)),
            };
            rows.for_each(|row| avx2::prefetch(matrix.row(row).part(next.clone())));
            // SAFETY: the processor has what it's compiled for, as `fits` has found.
            unsafe { transpose(expanded, panel) };
            add_all(&blocks, columns, column, panel, sums);
        }
        // SAFETY: no other task has these columns, and this one has no other tile of them.
        let mut place = unsafe { shared.tile(0, tokens, first, count) };
        sums.chunks_exact(PANEL).enumerate().for_each(|(token, sums)| place.row(token).copy_from_slice(&sums[..count]));
    });
}

/// `gradient matrix`: `[T, R]` to `[T, C]`.
pub(super) fn multiply_back(gradient: &[f32], matrix: Rows, out: &mut [f32]) {
    let columns = matrix.columns();
    let tokens = out.len() / columns;
    let rows = gradient.len() / tokens;
    let shared = Shared::new(out, columns);
    let blocks = blocks(gradient, rows);
    let wide = ACROSS * PANEL;
    let room = || (vec![0.0; wide], vec![0.0; DEPTH * wide], vec![0.0; tokens * wide]);
    (0..columns.div_ceil(wide)).into_par_iter().for_each_init(room, |(expanded, panels, sums), index| {
        // Whole panels, since columns are whole groups.
        let part = index * wide..columns.min((index + 1) * wide);
        let expanded = &mut expanded[..part.len()];
        sums.fill(0.0);
        for row in (0..rows).step_by(DEPTH) {
            let depth = DEPTH.min(rows - row);
            for at in 0..depth {
                expand_row(matrix.row(row + at).part(part.clone()), expanded);
                let places = panels.chunks_exact_mut(depth * PANEL).map(|panel| &mut panel[at * PANEL..][..PANEL]);
                places.zip(expanded.chunks_exact(PANEL)).for_each(|(place, values)| place.copy_from_slice(values));
            }
            let panels = panels.chunks_exact(depth * PANEL).take(part.len() / PANEL);
            panels
                .zip(sums.chunks_exact_mut(tokens * PANEL))
                .for_each(|(panel, sums)| add_all(&blocks, rows, row, panel, sums));
        }
        // SAFETY: no other task has these columns, and this one has no other tile of them.
        let mut place = unsafe { shared.tile(0, tokens, part.start, part.len()) };
        for token in 0..tokens {
            let sums = sums.chunks_exact(tokens * PANEL).map(|sums| &sums[token * PANEL..][..PANEL]);
            place.row(token).chunks_exact_mut(PANEL).zip(sums).for_each(|(place, sums)| place.copy_from_slice(sums));
        }
    });
}

/// Rows `[T, C]` by blocks, each of which is `[C, BLOCK]`, and the last one as narrow as it has rows.
fn blocks(x: &[f32], columns: usize) -> Vec<f32> {
    let mut packed = vec![0.0; x.len()];
    packed.par_chunks_mut(BLOCK * columns).zip(x.par_chunks(BLOCK * columns)).for_each(|(packed, rows)| {
        let tokens = rows.len() / columns;
        for (token, row) in rows.chunks_exact(columns).enumerate() {
            packed[token..].iter_mut().step_by(tokens).zip(row).for_each(|(packed, value)| *packed = *value);
        }
    });
    packed
}

/// Adds the products of all blocks' columns from one on with a panel to the sums `[T, PANEL]`.
fn add_all(blocks: &[f32], columns: usize, first: usize, panel: &[f32], sums: &mut [f32]) {
    let depth = panel.len() / PANEL;
    for (block, sums) in blocks.chunks(BLOCK * columns).zip(sums.chunks_mut(BLOCK * PANEL)) {
        let tokens = sums.len() / PANEL;
        let block = &block[first * tokens..][..depth * tokens];
        // SAFETY: the processor has what they're compiled for, as `fits` has found.
        unsafe {
            match tokens {
                6 => add::<6>(block, panel, sums),
                5 => add::<5>(block, panel, sums),
                4 => add::<4>(block, panel, sums),
                3 => add::<3>(block, panel, sums),
                2 => add::<2>(block, panel, sums),
                _ => add::<1>(block, panel, sums),
            }
        }
    }
}

/// `PANEL` rows of a number of eights of elements, turned to as many rows of `PANEL`.
#[target_feature(enable = "avx2,fma,f16c")]
fn transpose(rows: &[f32], panel: &mut [f32]) {
    let width = rows.len() / PANEL;
    for first in (0..PANEL).step_by(LANES) {
        for column in (0..width).step_by(LANES) {
            let part = &rows[first * width + column..][..(LANES - 1) * width + LANES];
            // SAFETY: eight elements of each of eight rows.
            let eight = std::array::from_fn(|row| unsafe { _mm256_loadu_ps(part.as_ptr().add(row * width)) });
            let out = &mut panel[column * PANEL + first..][..(LANES - 1) * PANEL + LANES];
            for (row, vector) in turned(eight).into_iter().enumerate() {
                // SAFETY: eight elements of each of eight rows of the panel.
                unsafe { _mm256_storeu_ps(out.as_mut_ptr().add(row * PANEL), vector) };
            }
        }
    }
}

/// The transpose of eight rows of eight.
#[inline]
#[target_feature(enable = "avx2,fma,f16c")]
fn turned(rows: [__m256; LANES]) -> [__m256; LANES] {
    let [a, b, c, d, e, f, g, h] = rows;
    let pair = |a, b| (_mm256_unpacklo_ps(a, b), _mm256_unpackhi_ps(a, b));
    // Columns 0, 1, 4, 5 of four rows, and their columns 2, 3, 6, 7.
    let four = |a, b, c, d| {
        let ((ab, ab_high), (cd, cd_high)) = (pair(a, b), pair(c, d));
        [
            _mm256_shuffle_ps::<0b01_00_01_00>(ab, cd),
            _mm256_shuffle_ps::<0b11_10_11_10>(ab, cd),
            _mm256_shuffle_ps::<0b01_00_01_00>(ab_high, cd_high),
            _mm256_shuffle_ps::<0b11_10_11_10>(ab_high, cd_high),
        ]
    };
    let (upper, lower) = (four(a, b, c, d), four(e, f, g, h));
    std::array::from_fn(|column| {
        let (upper, lower) = (upper[column % 4], lower[column % 4]);
        if column < 4 {
            _mm256_permute2f128_ps::<0x20>(upper, lower)
        } else {
            _mm256_permute2f128_ps::<0x31>(upper, lower)
        }
    })
}

/// Adds the products of `T` rows, `[depth, T]`, with a panel, `[depth, PANEL]`, to the sums `[T, PANEL]`.
#[target_feature(enable = "avx2,fma,f16c")]
fn add<const T: usize>(block: &[f32], panel: &[f32], sums: &mut [f32]) {
    let mut lanes = [[_mm256_setzero_ps(); PANEL / LANES]; T];
    for (x, row) in block.as_chunks::<T>().0.iter().zip(panel.as_chunks::<PANEL>().0) {
        // SAFETY: a row of the panel has these vectors.
        let row: [__m256; PANEL / LANES] =
            std::array::from_fn(|at| unsafe { _mm256_loadu_ps(row.as_ptr().add(at * LANES)) });
        for (x, lanes) in x.iter().zip(&mut lanes) {
            let x = _mm256_set1_ps(*x);
            for (lanes, row) in lanes.iter_mut().zip(row) {
                *lanes = _mm256_fmadd_ps(x, row, *lanes);
            }
        }
    }
    for (lanes, sums) in lanes.iter().flatten().zip(sums.as_chunks_mut::<LANES>().0) {
        // SAFETY: there are eight sums.
        unsafe { _mm256_storeu_ps(sums.as_mut_ptr(), _mm256_add_ps(_mm256_loadu_ps(sums.as_ptr()), *lanes)) };
    }
}
