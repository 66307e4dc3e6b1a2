//! Matrix products on parts of slices: by the `gemm` crate, or in portable mode by loops of our own.

mod portable;
mod views;

pub(super) use views::{By, Matrix, MatrixMut, Shared, Store};

use gemm::Parallelism;

use crate::support::arithmetic::Arithmetic;

/// `result = scale a b`, or that added to what `result` is.
pub(super) fn multiply(result: MatrixMut, store: Store, scale: f32, a: Matrix, b: Matrix, by: By) {
    assert!(result.rows == a.rows && result.columns == b.columns && a.columns == b.rows, "matrices don't fit");
    if Arithmetic::current() == Arithmetic::Portable {
        return portable::multiply(result, store, scale, a, b, by);
    }
    let parallelism = match by {
        By::One => Parallelism::None,
        By::All => Parallelism::Rayon(0),
    };
    // SAFETY: `check` has seen to it that all elements are inside of the slices the matrices borrow (or, for a tile,
    // its maker has), and the result is borrowed exclusively.
    #[expect(unsafe_code)]
    unsafe {
        gemm::gemm(
            result.rows,
            result.columns,
            a.columns,
            result.start,
            1,
            result.row_stride as isize,
            store == Store::Add,
            a.start,
            a.column_stride as isize,
            a.row_stride as isize,
            b.start,
            b.column_stride as isize,
            b.row_stride as isize,
            1.0,
            scale,
            false,
            false,
            false,
            parallelism,
        );
    }
}
