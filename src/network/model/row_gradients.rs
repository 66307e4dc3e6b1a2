//! Gradients of some rows of a table, where nothing is to be as large as the table.

use std::sync::Arc;

use burn::tensor::Tensor;
use parking_lot::Mutex;

use crate::network::kernels::{self, RowIds};

/// Gradients of some rows of a table.
#[derive(Clone, Debug)]
pub struct RowGradients {
    /// The rows, ascending.
    pub rows: Arc<[u32]>,
    /// Their gradients, `[rows, width]`.
    pub values: Tensor<2>,
}

/// Where backward passes leave the gradients of a table's rows, since autodiff has none that are sparse.
#[derive(Clone, Debug, Default)]
pub struct RowSink(Arc<Mutex<Vec<RowGradients>>>);

impl RowSink {
    /// Adds what a backward pass has.
    pub(super) fn leave(&self, gradients: RowGradients) {
        self.0.lock().push(gradients);
    }

    /// Takes all that were left since the last time, added up.
    pub fn take(&self) -> Option<RowGradients> {
        let left = std::mem::take(&mut *self.0.lock());
        left.into_iter().reduce(RowGradients::plus)
    }
}

impl RowGradients {
    /// The sum with gradients of other rows, or the same ones.
    #[must_use]
    pub fn plus(self, other: Self) -> Self {
        let mut rows = [&self.rows[..], &other.rows[..]].concat();
        rows.sort_unstable();
        rows.dedup();
        let rows: Arc<[u32]> = rows.into();
        let values = self.among(&rows) + other.among(&rows);
        Self { rows, values }
    }

    /// The gradients of more rows than these, `[rows, width]`: zeros for those that have none here.
    pub fn among(self, rows: &[u32]) -> Tensor<2> {
        if *self.rows == *rows {
            return self.values;
        }
        let (own, device) = (self.rows.len() as u32, self.values.device());
        let place = |row| self.rows.binary_search(row).map_or(own, |at| at as u32);
        let places: Vec<u32> = rows.iter().map(place).collect();
        let width = self.values.dims()[1];
        let zeros = Tensor::zeros([1, width], (&device, self.values.dtype()));
        kernels::embedding(Tensor::cat(vec![self.values, zeros], 0), &RowIds::new(places, &device))
    }
}
