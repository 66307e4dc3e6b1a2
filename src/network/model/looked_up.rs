//! Tables of which a step reads few rows: only those have gradients, and nothing is as large as the table.

use std::sync::Arc;

use burn::tensor::Tensor;
use parking_lot::Mutex;

use super::{ids::MatrixId, pass::Pass};
use crate::network::kernels::{self, Grads, RowIds};

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
    fn leave(&self, gradients: RowGradients) {
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

impl Pass<'_> {
    /// The sums `[T, width]` of rows of a [sparse table](super::Builder::sparse_table): of each list of `ids` one for each token.
    pub fn looked_up(&self, table: MatrixId, ids: &[Vec<u32>]) -> Tensor<2> {
        let mut rows = ids.concat();
        rows.sort_unstable();
        rows.dedup();
        let rows: Arc<[u32]> = rows.into();
        let places = |ids: &Vec<u32>| -> Vec<u32> {
            ids.iter().map(|row| rows.binary_search(row).unwrap_or_default() as u32).collect()
        };
        let places: Vec<RowIds> = ids.iter().map(|ids| RowIds::new(places(ids), self.device())).collect();
        let (table, sink) = (self.matrix(table), self.parameters.row_sink(table));
        let few = kernels::embedding(table.clone().inner(), &RowIds::new(Arc::clone(&rows), self.device()));
        let few = kernels::custom_backward(few, vec![table], move |values| {
            sink.leave(RowGradients { rows, values });
            Grads::default()
        });
        match places.split_first() {
            Some((first, others)) => {
                kernels::embedding_sum((few.clone(), first), others.iter().map(|ids| (few.clone(), ids)))
            }
            None => few,
        }
    }
}
