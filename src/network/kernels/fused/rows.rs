//! Work split by rows, into parts that don't depend on the number of threads.

use rayon::prelude::*;

use crate::network::kernels::simd::simd;

/// Rows of a part.
pub(super) const PART: usize = 32;

/// Calls `f` with the first row of each part of `out` and the part.
pub(super) fn for_each(out: &mut [f32], width: usize, f: impl Fn(usize, &mut [f32]) + Sync) {
    if width > 0 {
        out.par_chunks_mut(PART * width).enumerate().for_each(|(i, part)| f(i * PART, part));
    }
}

/// As `for_each`; `f` also gets `sums` accumulators, zeros at first, which are added up over the parts in their order.
pub(super) fn for_each_with_sums(
    out: &mut [f32],
    width: usize,
    sums: usize,
    f: impl Fn(usize, &mut [f32], &mut [f32]) + Sync,
) -> Vec<f32> {
    if width == 0 || out.is_empty() {
        return vec![0.0; sums];
    }
    let partial: Vec<Vec<f32>> = out
        .par_chunks_mut(PART * width)
        .enumerate()
        .map(|(i, part)| {
            let mut partial = vec![0.0; sums];
            f(i * PART, part, &mut partial);
            partial
        })
        .collect();
    partial
        .into_iter()
        .reduce(|mut sum, part| {
            add(&mut sum, &part);
            sum
        })
        .unwrap_or_default()
}

/// Sum of the rows of a matrix.
pub(super) fn column_sums(matrix: &[f32], width: usize) -> Vec<f32> {
    if width == 0 || matrix.is_empty() {
        return vec![0.0; width];
    }
    let partial: Vec<Vec<f32>> = matrix
        .par_chunks(PART * width)
        .map(|part| {
            let mut sum = vec![0.0; width];
            part.chunks_exact(width).for_each(|row| add(&mut sum, row));
            sum
        })
        .collect();
    let mut sum = vec![0.0; width];
    partial.iter().for_each(|part| add(&mut sum, part));
    sum
}

simd! {
    /// Adds element by element.
    pub(super) fn add(sum: &mut [f32], row: &[f32]) {
        for (sum, x) in sum.iter_mut().zip(row) {
            *sum += x;
        }
    }
}

simd! {
    /// Multiplies all elements.
    pub(super) fn scale(row: &mut [f32], by: f32) {
        for x in row {
            *x *= by;
        }
    }
}
