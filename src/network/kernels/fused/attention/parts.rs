//! Queries, keys and values as columns of matrices, theirs alone or one that they share.

use std::ops::Range;

use crate::network::kernels::fused::matrix::{Matrix, MatrixMut, Shared};

/// Columns of a matrix, from `column` on: one head after the other.
#[derive(Clone, Copy)]
pub(super) struct Part<'a> {
    elements: &'a [f32],
    stride: usize,
    column: usize,
}

impl<'a> Part<'a> {
    /// Columns of a matrix of `stride` columns.
    pub(super) fn new(elements: &'a [f32], stride: usize, column: usize) -> Self {
        Self { elements, stride, column }
    }

    /// Some rows of a head.
    pub(super) fn head(&self, rows: &Range<usize>, head: usize, size: usize) -> Matrix<'a> {
        let start = rows.start * self.stride + self.column + head * size;
        Matrix::new(&self.elements[start..], rows.len(), size, self.stride)
    }
}

/// Columns of a matrix that several threads write.
#[derive(Clone, Copy)]
pub(super) struct PartMut<'a> {
    matrix: Shared<'a>,
    column: usize,
}

impl<'a> PartMut<'a> {
    /// Columns from `column` on.
    pub(super) fn new(matrix: Shared<'a>, column: usize) -> Self {
        Self { matrix, column }
    }

    /// Some rows of a head, or of as many neighbours as `size` covers.
    ///
    /// # Safety
    /// While it lives, no other tile may share an element with it.
    #[expect(unsafe_code)]
    pub(super) unsafe fn tile(&self, rows: &Range<usize>, head: usize, size: usize) -> MatrixMut<'a> {
        // SAFETY: the caller's promise.
        unsafe { self.matrix.tile(rows.start, rows.len(), self.column + head * size, size) }
    }
}

/// What attention is given.
#[derive(Clone, Copy)]
pub(super) struct Inputs<'a> {
    pub(super) query: Part<'a>,
    pub(super) key: Part<'a>,
    pub(super) value: Part<'a>,
    /// Columns of a head.
    pub(super) size: usize,
}

/// Where their gradients go.
#[derive(Clone, Copy)]
pub(super) struct Grads<'a> {
    pub(super) query: PartMut<'a>,
    pub(super) key: PartMut<'a>,
    pub(super) value: PartMut<'a>,
}
