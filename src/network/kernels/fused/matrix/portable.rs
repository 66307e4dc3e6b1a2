//! Matrix products with the same bits everywhere.
//!
//! Each element is the sum of its products in the order of the inner dimension, one after the other, from 0; then it's scaled
//! and added to what is in its place. Vectors run along the rows of the result, and threads over its columns, so that neither
//! their width nor their number changes a sum.

use rayon::prelude::*;

use super::views::{By, Matrix, MatrixMut, Shared, Store};
use crate::network::kernels::simd::simd;

/// Rows and columns of a tile of the result, whose sums stay in registers.
const ROWS: usize = 4;
const COLUMNS: usize = 16;

/// As [`super::multiply`].
pub(super) fn multiply(result: MatrixMut, store: Store, scale: f32, a: Matrix, b: Matrix, by: By) {
    let (rows, columns, inner) = (result.rows, result.columns, a.columns);
    let mut strips = vec![0.0; rows.div_ceil(ROWS) * ROWS * inner];
    // Nothing to pack without an inner dimension, but sums of nothing are still to be stored.
    if inner > 0 {
        let pack = |(strip, packed): (usize, &mut [f32])| pack::<ROWS>(a, strip * ROWS, packed);
        match by {
            By::One => strips.chunks_exact_mut(ROWS * inner).enumerate().for_each(pack),
            By::All => strips.par_chunks_exact_mut(ROWS * inner).enumerate().for_each(pack),
        }
    }
    let result = Shared::from(result);
    let columns_of = |packed: &mut Vec<f32>, panel: usize| {
        let first = panel * COLUMNS;
        let count = COLUMNS.min(columns - first);
        packed.resize(COLUMNS * inner, 0.0);
        pack::<COLUMNS>(b.t(), first, packed);
        for strip in 0..rows.div_ceil(ROWS) {
            let sums = tile(&strips[strip * ROWS * inner..][..ROWS * inner], packed);
            let height = ROWS.min(rows - strip * ROWS);
            // SAFETY: no other task has these columns, and tiles of a task come one after the other.
            #[expect(unsafe_code)]
            let mut place = unsafe { result.tile(strip * ROWS, height, first, count) };
            for (row, sums) in sums.iter().enumerate().take(height) {
                for (place, sum) in place.row(row).iter_mut().zip(sums) {
                    *place = if store == Store::Add { *place + scale * sum } else { scale * sum };
                }
            }
        }
    };
    let panels = columns.div_ceil(COLUMNS);
    match by {
        By::One => {
            let mut packed = Vec::new();
            (0..panels).for_each(|panel| columns_of(&mut packed, panel));
        }
        By::All => (0..panels).into_par_iter().for_each_init(Vec::new, columns_of),
    }
}

/// `N` rows of a matrix from `first` on, column by column; 0 for those that it doesn't have.
fn pack<const N: usize>(matrix: Matrix, first: usize, packed: &mut [f32]) {
    let count = N.min(matrix.rows - first);
    let columns = packed.as_chunks_mut::<N>().0;
    if count < N {
        columns.fill([0.0; N]);
    }
    if matrix.row_stride == 1 {
        for (column, packed) in columns.iter_mut().enumerate() {
            packed.iter_mut().take(count).enumerate().for_each(|(row, x)| *x = matrix.at(first + row, column));
        }
    } else {
        for row in 0..count {
            columns.iter_mut().enumerate().for_each(|(column, packed)| packed[row] = matrix.at(first + row, column));
        }
    }
}

simd! {
    /// The products of packed rows and packed columns.
    fn tile(a: &[f32], b: &[f32]) -> [[f32; COLUMNS]; ROWS] {
        let mut sums = [[0.0f32; COLUMNS]; ROWS];
        for (a, b) in a.as_chunks::<ROWS>().0.iter().zip(b.as_chunks::<COLUMNS>().0) {
            for row in 0..ROWS {
                for column in 0..COLUMNS {
                    sums[row][column] += a[row] * b[column];
                }
            }
        }
        sums
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A product of `[m, k]` and `[k, n]`, of which either may be given by its transpose.
    fn product([m, k, n]: [usize; 3], transposed: [bool; 2], store: Store, by: By) -> Vec<f32> {
        let noise = |count: usize, seed: f32| (0..count).map(|i| (i as f32 * seed).sin()).collect::<Vec<f32>>();
        let (a, b, mut result) = (noise(m * k, 1.3), noise(k * n, 1.7), noise(m * n, 0.9));
        let matrix = |x, rows, columns, transposed: bool| match transposed {
            false => Matrix::new(x, rows, columns, columns),
            true => Matrix::new(x, columns, rows, rows).t(),
        };
        let (a, b) = (matrix(&a, m, k, transposed[0]), matrix(&b, k, n, transposed[1]));
        let place = MatrixMut::new(&mut result, m, n, n);
        multiply(place, store, 0.5, a, b, by);
        for (row, result) in result.chunks_exact(n.max(1)).enumerate() {
            for (column, found) in result.iter().enumerate() {
                let products = (0..k).map(|i| f64::from(a.at(row, i)) * f64::from(b.at(i, column)));
                let before = if store == Store::Add { f64::from(((row * n + column) as f32 * 0.9).sin()) } else { 0.0 };
                let expected = before + 0.5 * products.sum::<f64>();
                assert!((f64::from(*found) - expected).abs() < 1e-5, "{row}, {column}: {found}, not {expected}");
            }
        }
        result
    }

    #[test]
    fn products_of_any_shape_are_right() {
        for shape in [[1, 1, 1], [4, 16, 16], [5, 7, 17], [3, 40, 2], [9, 0, 33], [0, 3, 4], [4, 3, 0], [33, 65, 50]] {
            for transposed in [[false, false], [true, false], [false, true], [true, true]] {
                product(shape, transposed, Store::Replace, By::All);
                product(shape, transposed, Store::Add, By::One);
            }
        }
    }

    #[test]
    fn sums_are_taken_in_one_order() {
        let bits = |x: Vec<f32>| x.into_iter().map(f32::to_bits).collect::<Vec<_>>();
        let one = bits(product([37, 300, 45], [false, true], Store::Replace, By::One));
        assert_eq!(one, bits(product([37, 300, 45], [false, true], Store::Replace, By::All)));
        let alone = rayon::ThreadPoolBuilder::new().num_threads(1).build().expect("a pool");
        assert_eq!(one, bits(alone.install(|| product([37, 300, 45], [false, true], Store::Replace, By::All))));
        // From 0 upwards, without fused multiply-add: 1 is lost between the large numbers.
        let (a, b) = ([1e8, 1.0, -1e8, 1.0], [1.0; 4]);
        let mut sum = [0.0];
        let (a, b) = (Matrix::new(&a, 1, 4, 4), Matrix::new(&b, 4, 1, 1));
        multiply(MatrixMut::new(&mut sum, 1, 1, 1), Store::Replace, 1.0, a, b, By::One);
        assert_eq!(sum, [1.0]);
        let near_1 = 1.0 + f32::EPSILON;
        let (a, b) = ([-1.0 - 2.0 * f32::EPSILON, near_1], [1.0, near_1]);
        let (a, b) = (Matrix::new(&a, 1, 2, 2), Matrix::new(&b, 2, 1, 1));
        multiply(MatrixMut::new(&mut sum, 1, 1, 1), Store::Replace, 1.0, a, b, By::One);
        // A fused multiply-add would keep ε² of (1 + ε)².
        assert_eq!(sum, [0.0]);
    }
}
