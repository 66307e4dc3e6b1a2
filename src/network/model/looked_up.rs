//! Tables of which a step reads few rows: only those have gradients, and nothing is as large as the table.

use std::sync::Arc;

use burn::tensor::Tensor;

use super::{ids::MatrixId, pass::Pass, row_gradients::RowGradients};
use crate::network::kernels::{self, Grads, RowIds};

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
