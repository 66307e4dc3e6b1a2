//! Rows out of a table, and their gradients back into it.

use std::sync::Arc;

use burn::backend::flex::FlexTensor;
use rayon::prelude::*;

use super::{
    buffer::{owned, room, tensor},
    kernel::{Kernel, elements, shape},
    rows,
};

/// Rows of the table whose gradients a thread adds up at a time.
const SHARD: usize = 1 << 9;

/// See [`crate::network::kernels::embedding`].
#[derive(Clone, Debug)]
pub(super) struct Embedding(pub(super) Arc<[u32]>);

/// The same, added to what is there: inputs are sum, table.
#[derive(Clone, Debug)]
pub(super) struct AddEmbedding(pub(super) Arc<[u32]>);

fn row<'a>(table: &'a [f32], ids: &[u32], at: usize, width: usize) -> &'a [f32] {
    &table[ids[at] as usize * width..][..width]
}

/// Adds each row of the gradient to its place in the table, in the order of the ids.
fn scatter(ids: &[u32], gradient: &FlexTensor, height: usize) -> FlexTensor {
    let [_, width] = shape(gradient);
    let gradient = elements(gradient);
    let mut table = room(height * width);
    table.par_chunks_mut((SHARD * width).max(1)).enumerate().for_each(|(shard, part)| {
        part.fill(0.0);
        let first = shard * SHARD;
        for (i, &id) in ids.iter().enumerate() {
            let id = id as usize;
            if (first..first + SHARD).contains(&id) {
                rows::add(&mut part[(id - first) * width..][..width], &gradient[i * width..][..width]);
            }
        }
    });
    tensor(table, [height, width])
}

impl Kernel<1> for Embedding {
    /// Rows of the table.
    type Saved = usize;

    fn forward(&self, [table]: [FlexTensor; 1], _: [bool; 1]) -> (FlexTensor, usize) {
        let [height, width] = shape(&table);
        let mut out = room(self.0.len() * width);
        let all = elements(&table);
        rows::for_each(&mut out, width, |first, part| {
            for (i, out) in part.chunks_exact_mut(width).enumerate() {
                out.copy_from_slice(row(all, &self.0, first + i, width));
            }
        });
        (tensor(out, [self.0.len(), width]), height)
    }

    fn backward(&self, height: usize, gradient: FlexTensor, _: [bool; 1]) -> [Option<FlexTensor>; 1] {
        [Some(scatter(&self.0, &gradient, height))]
    }
}

impl Kernel<2> for AddEmbedding {
    /// Rows of the table.
    type Saved = usize;

    fn forward(&self, [sum, table]: [FlexTensor; 2], _: [bool; 2]) -> (FlexTensor, usize) {
        let [height, width] = shape(&table);
        let mut out = owned(sum);
        let all = elements(&table);
        rows::for_each(out.storage_mut(), width, |first, part| {
            for (i, out) in part.chunks_exact_mut(width).enumerate() {
                rows::add(out, row(all, &self.0, first + i, width));
            }
        });
        (out, height)
    }

    fn backward(&self, height: usize, gradient: FlexTensor, [sum, table]: [bool; 2]) -> [Option<FlexTensor>; 2] {
        let table = table.then(|| scatter(&self.0, &gradient, height));
        [sum.then_some(gradient), table]
    }
}
