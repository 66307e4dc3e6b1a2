//! Matrices in memory of somebody else's.
#![expect(unsafe_code)]

use std::marker::PhantomData;

/// A matrix in someone else's memory.
#[derive(Clone, Copy)]
pub(in crate::network::kernels::fused) struct Matrix<'a> {
    pub(super) start: *const f32,
    pub(super) rows: usize,
    pub(super) columns: usize,
    pub(super) row_stride: usize,
    pub(super) column_stride: usize,
    lifetime: PhantomData<&'a [f32]>,
}

/// A matrix in someone else's memory, to be written.
pub(in crate::network::kernels::fused) struct MatrixMut<'a> {
    pub(super) start: *mut f32,
    pub(super) rows: usize,
    pub(super) columns: usize,
    pub(super) row_stride: usize,
    lifetime: PhantomData<&'a mut [f32]>,
}

/// What becomes of what is in the result's place.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(in crate::network::kernels::fused) enum Store {
    /// It's overwritten.
    Replace,
    /// The product is added to it.
    Add,
}

/// Who computes a product.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(in crate::network::kernels::fused) enum By {
    /// The calling thread.
    One,
    /// All of rayon's threads.
    All,
}

// SAFETY: it's only read, as the slice that it borrows could be.
unsafe impl Send for Matrix<'_> {}
// SAFETY: as above.
unsafe impl Sync for Matrix<'_> {}

impl<'a> Matrix<'a> {
    /// `rows` rows that begin `stride` elements apart.
    pub(in crate::network::kernels::fused) fn new(
        elements: &'a [f32],
        rows: usize,
        columns: usize,
        stride: usize,
    ) -> Self {
        check(elements.len(), rows, columns, stride);
        let start = elements.as_ptr();
        Self { start, rows, columns, row_stride: stride, column_stride: 1, lifetime: PhantomData }
    }

    /// The transpose.
    pub(in crate::network::kernels::fused) fn t(self) -> Self {
        Self {
            rows: self.columns,
            columns: self.rows,
            row_stride: self.column_stride,
            column_stride: self.row_stride,
            ..self
        }
    }

    /// An element.
    #[inline(always)]
    pub(super) fn at(&self, row: usize, column: usize) -> f32 {
        debug_assert!(row < self.rows && column < self.columns);
        // SAFETY: callers stay within rows and columns, whose elements `new` has vouched for.
        unsafe { *self.start.add(row * self.row_stride + column * self.column_stride) }
    }
}

impl<'a> MatrixMut<'a> {
    /// `rows` rows that begin `stride` elements apart.
    pub(in crate::network::kernels::fused) fn new(
        elements: &'a mut [f32],
        rows: usize,
        columns: usize,
        stride: usize,
    ) -> Self {
        check(elements.len(), rows, columns, stride);
        Self { start: elements.as_mut_ptr(), rows, columns, row_stride: stride, lifetime: PhantomData }
    }

    /// The same matrix for a shorter time.
    pub(in crate::network::kernels::fused) fn reborrow(&mut self) -> MatrixMut<'_> {
        MatrixMut { lifetime: PhantomData, ..*self }
    }

    /// Sets all elements.
    pub(in crate::network::kernels::fused) fn fill(mut self, value: f32) {
        (0..self.rows).for_each(|row| self.row(row).fill(value));
    }

    /// A row.
    pub(in crate::network::kernels::fused) fn row(&mut self, row: usize) -> &mut [f32] {
        assert!(row < self.rows);
        // SAFETY: `new` or the caller of `tile` has vouched for the elements of all rows, and `self` is borrowed.
        unsafe { std::slice::from_raw_parts_mut(self.start.add(row * self.row_stride), self.columns) }
    }
}

fn check(elements: usize, rows: usize, columns: usize, stride: usize) {
    assert!(columns <= stride || rows <= 1, "rows overlap");
    assert!(rows == 0 || (rows - 1) * stride + columns <= elements, "a matrix goes beyond its elements");
}

/// A matrix that several threads write, each its own part.
#[derive(Clone, Copy)]
pub(in crate::network::kernels::fused) struct Shared<'a> {
    pub(super) start: *mut f32,
    pub(super) rows: usize,
    pub(super) columns: usize,
    pub(super) row_stride: usize,
    lifetime: PhantomData<&'a mut [f32]>,
}

impl<'a> From<MatrixMut<'a>> for Shared<'a> {
    fn from(MatrixMut { start, rows, columns, row_stride, lifetime }: MatrixMut<'a>) -> Self {
        Self { start, rows, columns, row_stride, lifetime }
    }
}

// SAFETY: all access goes through `tile`, whose callers vouch that no two threads touch the same elements.
unsafe impl Send for Shared<'_> {}
// SAFETY: as above.
unsafe impl Sync for Shared<'_> {}

impl<'a> Shared<'a> {
    /// All of a slice as a matrix.
    pub(in crate::network::kernels::fused) fn new(elements: &'a mut [f32], columns: usize) -> Self {
        let rows = elements.len() / columns.max(1);
        Self { start: elements.as_mut_ptr(), rows, columns, row_stride: columns, lifetime: PhantomData }
    }

    /// A part of it.
    ///
    /// # Safety
    /// While it lives, no other tile may share an element with it.
    pub(in crate::network::kernels::fused) unsafe fn tile(
        &self,
        row: usize,
        rows: usize,
        column: usize,
        columns: usize,
    ) -> MatrixMut<'a> {
        assert!(row + rows <= self.rows && column + columns <= self.columns, "a tile goes beyond its matrix");
        // SAFETY: the offset is inside of the slice, by the assertion.
        let start = unsafe { self.start.add(row * self.row_stride + column) };
        MatrixMut { start, rows, columns, row_stride: self.row_stride, lifetime: PhantomData }
    }
}
