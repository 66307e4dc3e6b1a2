//! Some rows of tables, taken out for a step of their own and put back.

use std::sync::Arc;

use anyhow::{Context, Result};
use burn::tensor::{IndexingUpdateOp, Tensor};

use super::optimizers::{UpdateContext, UpdateRule};
use crate::network::{
    kernels::{self, RowIds},
    model::AnyTensor,
};

/// Rows of a table that a step changes, each once.
pub(super) struct Rows(Arc<[u32]>);

impl Rows {
    pub(super) fn new(rows: Arc<[u32]>) -> Self {
        Self(rows)
    }

    /// A rule's step of these rows of a table and of what is kept of them; all others stay as they are.
    ///
    /// # Errors
    /// As [`UpdateRule::update`].
    pub(super) fn update(
        &self,
        rule: &dyn UpdateRule,
        context: &UpdateContext<'_>,
        table: AnyTensor,
        gradient: AnyTensor,
        kept: Option<Vec<AnyTensor>>,
    ) -> Result<(AnyTensor, Vec<AnyTensor>)> {
        let slots = rule.slots(context.role, &table.shape()).len();
        let kept = kept.unwrap_or_else(|| (0..slots).map(|_| table.zeros()).collect());
        let own = kept.iter().map(|tensor| self.of(tensor)).collect::<Result<_>>()?;
        let (value, own) = rule.update(context, self.of(&table)?, gradient, Some(own))?;
        let kept = kept.into_iter().zip(own).map(|(tensor, own)| self.put(tensor, own)).collect::<Result<_>>()?;
        Ok((self.put(table, value)?, kept))
    }

    /// The rows of a table, `[rows, width]`.
    ///
    /// # Errors
    /// A vector.
    fn of(&self, table: &AnyTensor) -> Result<AnyTensor> {
        let table = table.as_matrix().context("only tables have rows")?;
        Ok(kernels::embedding(table.clone(), &RowIds::new(Arc::clone(&self.0), &table.device())).into())
    }

    /// The table with these values in its rows; on the CPU it's changed in place.
    ///
    /// # Errors
    /// Vectors, and the device's.
    fn put(&self, table: AnyTensor, values: AnyTensor) -> Result<AnyTensor> {
        let width = *values.shape().get(1).context("only tables have rows")?;
        let on_host = values.with_slice(<[f32]>::to_vec);
        let table = match on_host {
            Some(values) => {
                let put = |table: &mut [f32]| {
                    for (row, values) in self.0.iter().zip(values.chunks_exact(width.max(1))) {
                        table[*row as usize * width..][..width].copy_from_slice(values);
                    }
                };
                match table.with_slice_mut(put) {
                    Ok(table) => return Ok(table),
                    Err(table) => table,
                }
            }
            None => table,
        };
        let change = values - self.of(&table)?;
        let (table, change): (Result<Tensor<2>, _>, Result<Tensor<2>, _>) = (table.try_into(), change.try_into());
        let (table, change) = table.ok().zip(change.ok()).context("only tables have rows")?;
        let rows = RowIds::new(Arc::clone(&self.0), &table.device());
        Ok(table.select_assign(0, rows.tensor, change, IndexingUpdateOp::Add).into())
    }
}
