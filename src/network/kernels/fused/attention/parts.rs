//! Queries, keys and values as columns of matrices, theirs alone or one that they share.

use std::ops::Range;

use half::{bf16, slice::HalfFloatSliceExt};

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

/// Keys or values.
#[derive(Clone, Copy)]
pub(super) enum Keys<'a> {
    /// As they were computed.
    F32(Part<'a>),
    /// As a cache holds them: all columns of a matrix of `stride` columns.
    Bf16 { elements: &'a [bf16], stride: usize },
}

impl Keys<'_> {
    /// Some rows of a head, which are in `widened` where they aren't f32.
    pub(super) fn head<'w>(&self, rows: &Range<usize>, head: usize, size: usize, widened: &'w mut Widened) -> Matrix<'w>
    where
        Self: 'w,
    {
        match *self {
            Self::F32(part) => part.head(rows, head, size),
            Self::Bf16 { elements, stride } => widened.rows(elements, stride, rows, head, size),
        }
    }
}

/// Rows of a head in f32. The last ones are kept: heads share them, and blocks of queries.
#[derive(Default)]
pub(super) struct Widened {
    of: Option<(Range<usize>, usize)>,
    values: Vec<f32>,
}

impl Widened {
    /// Some rows of a head of `size` columns.
    fn rows(&mut self, all: &[bf16], stride: usize, rows: &Range<usize>, head: usize, size: usize) -> Matrix<'_> {
        let of = Some((rows.clone(), head));
        if self.of != of {
            self.values.resize(rows.len() * size, 0.0);
            for (row, out) in rows.clone().zip(self.values.chunks_exact_mut(size)) {
                all[row * stride + head * size..][..size].convert_to_f32_slice(out);
            }
            self.of = of;
        }
        Matrix::new(&self.values, rows.len(), size, size)
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
    pub(super) key: Keys<'a>,
    pub(super) value: Keys<'a>,
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
