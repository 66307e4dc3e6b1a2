//! Matrix products on parts of slices, by the `gemm` crate.
#![expect(unsafe_code)]

use std::marker::PhantomData;

use gemm::Parallelism;

/// A matrix in someone else's memory.
#[derive(Clone, Copy)]
pub(super) struct Matrix<'a> {
    start: *const f32,
    rows: usize,
    columns: usize,
    row_stride: usize,
    column_stride: usize,
    lifetime: PhantomData<&'a [f32]>,
}

/// A matrix in someone else's memory, to be written.
pub(super) struct MatrixMut<'a> {
    start: *mut f32,
    rows: usize,
    columns: usize,
    row_stride: usize,
    lifetime: PhantomData<&'a mut [f32]>,
}

/// What becomes of what is in the result's place.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Store {
    /// It's overwritten.
    Replace,
    /// The product is added to it.
    Add,
}

/// Who computes a product.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum By {
    /// The calling thread.
    One,
    /// All of rayon's threads.
    All,
}

impl<'a> Matrix<'a> {
    /// `rows` rows that begin `stride` elements apart.
    pub(super) fn new(elements: &'a [f32], rows: usize, columns: usize, stride: usize) -> Self {
        check(elements.len(), rows, columns, stride);
        let start = elements.as_ptr();
        Self { start, rows, columns, row_stride: stride, column_stride: 1, lifetime: PhantomData }
    }

    /// The transpose.
    pub(super) fn t(self) -> Self {
        Self {
            rows: self.columns,
            columns: self.rows,
            row_stride: self.column_stride,
            column_stride: self.row_stride,
            ..self
        }
    }
}

impl<'a> MatrixMut<'a> {
    /// `rows` rows that begin `stride` elements apart.
    pub(super) fn new(elements: &'a mut [f32], rows: usize, columns: usize, stride: usize) -> Self {
        check(elements.len(), rows, columns, stride);
        Self { start: elements.as_mut_ptr(), rows, columns, row_stride: stride, lifetime: PhantomData }
    }

    /// The same matrix for a shorter time.
    pub(super) fn reborrow(&mut self) -> MatrixMut<'_> {
        MatrixMut { lifetime: PhantomData, ..*self }
    }

    /// Sets all elements.
    pub(super) fn fill(mut self, value: f32) {
        (0..self.rows).for_each(|row| self.row(row).fill(value));
    }

    /// A row.
    pub(super) fn row(&mut self, row: usize) -> &mut [f32] {
        assert!(row < self.rows);
        // SAFETY: `new` or the caller of `tile` has vouched for the elements of all rows, and `self` is borrowed.
        unsafe { std::slice::from_raw_parts_mut(self.start.add(row * self.row_stride), self.columns) }
    }
}

fn check(elements: usize, rows: usize, columns: usize, stride: usize) {
    assert!(columns <= stride || rows <= 1, "rows overlap");
    assert!(rows == 0 || (rows - 1) * stride + columns <= elements, "a matrix goes beyond its elements");
}

/// `result = scale a b`, or that added to what `result` is.
pub(super) fn multiply(result: MatrixMut, store: Store, scale: f32, a: Matrix, b: Matrix, by: By) {
    assert!(result.rows == a.rows && result.columns == b.columns && a.columns == b.rows, "matrices don't fit");
    let parallelism = match by {
        By::One => Parallelism::None,
        By::All => Parallelism::Rayon(0),
    };
    // SAFETY: `check` has seen to it that all elements are inside of the slices the matrices borrow (or, for a tile,
    // its maker has), and the result is borrowed exclusively.
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

/// A matrix that several threads write, each its own part.
#[derive(Clone, Copy)]
pub(super) struct Shared<'a> {
    start: *mut f32,
    rows: usize,
    columns: usize,
    lifetime: PhantomData<&'a mut [f32]>,
}

// SAFETY: all access goes through `tile`, whose callers vouch that no two threads touch the same elements.
unsafe impl Send for Shared<'_> {}
// SAFETY: as above.
unsafe impl Sync for Shared<'_> {}

impl<'a> Shared<'a> {
    /// All of a slice as a matrix.
    pub(super) fn new(elements: &'a mut [f32], columns: usize) -> Self {
        let rows = elements.len() / columns.max(1);
        Self { start: elements.as_mut_ptr(), rows, columns, lifetime: PhantomData }
    }

    /// A part of it.
    ///
    /// # Safety
    /// While it lives, no other tile may share an element with it.
    pub(super) unsafe fn tile(&self, row: usize, rows: usize, column: usize, columns: usize) -> MatrixMut<'a> {
        assert!(row + rows <= self.rows && column + columns <= self.columns, "a tile goes beyond its matrix");
        // SAFETY: the offset is inside of the slice, by the assertion.
        let start = unsafe { self.start.add(row * self.columns + column) };
        MatrixMut { start, rows, columns, row_stride: self.columns, lifetime: PhantomData }
    }
}
