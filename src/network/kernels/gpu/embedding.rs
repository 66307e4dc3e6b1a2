//! The gradient of a table of embeddings: a cube for each id that occurs, which adds up the id's rows in their order.

use burn::{
    backend::{
        Backend, Dispatch, TensorMetadata, backend_extension,
        fusion::custom::TensorSpec,
        tensor::{FloatTensor, IntTensor},
    },
    tensor::{DType, Device, Int, Tensor, TensorData},
};
use burn_cubecl::{
    CubeBackend,
    cubecl::{self, prelude::*},
    ops::numeric::zeros,
    tensor::CubeTensor,
};

use super::launch::{Grid, Rows, kind};
use crate::network::kernels::{
    RowIds,
    custom_backward::{Grads, custom_backward},
};

/// See [`crate::network::kernels::embedding`].
pub(super) fn embedding(weight: Tensor<2>, ids: &RowIds) -> Tensor<2> {
    let rows = weight.clone().inner().select(0, ids.tensor.clone().inner());
    let (host, classes) = (ids.host.clone(), weight.dims()[0]);
    custom_backward(rows, vec![weight], move |gradient: Tensor<2>| {
        let Occurrences { order, starts, ids } = Occurrences::new(&host);
        let device = gradient.device();
        let [order, starts, ids] = [order, starts, ids].map(|values| upload(values, &device).into_dispatch());
        let sums = Dispatch::add_rows(gradient.into_dispatch(), order, starts, ids, classes);
        Grads::of([Some(Tensor::<2>::from_dispatch(sums))])
    })
}

fn upload(values: Vec<u32>, device: &Device) -> Tensor<1, Int> {
    let count = values.len();
    Tensor::from_data(TensorData::new(values, [count]), (device, DType::U32))
}

/// Where each id occurs.
#[derive(Debug, Eq, PartialEq)]
struct Occurrences {
    /// Places by id, those of an id in ascending order.
    order: Vec<u32>,
    /// Where each id's places begin there, and the end of the last.
    starts: Vec<u32>,
    /// The ids that occur, ascending.
    ids: Vec<u32>,
}

impl Occurrences {
    fn new(all: &[u32]) -> Self {
        let mut order: Vec<u32> = (0..all.len() as u32).collect();
        order.sort_by_key(|&place| all[place as usize]);
        let (mut starts, mut ids) = (Vec::new(), Vec::new());
        for (at, &place) in order.iter().enumerate() {
            let id = all[place as usize];
            if ids.last() != Some(&id) {
                starts.push(at as u32);
                ids.push(id);
            }
        }
        starts.push(order.len() as u32);
        Self { order, starts, ids }
    }
}

#[cube(launch)]
fn add_rows_kernel<F: Float, N: Size>(
    rows: &[Vector<F, N>],
    order: &[u32],
    starts: &[u32],
    ids: &[u32],
    sums: &mut [Vector<F, N>],
    count: usize,
    width: usize,
    #[define(F)] _numbers: ElemType,
) {
    if CUBE_POS >= count {
        terminate!();
    }
    let (first, end) = (starts[CUBE_POS], starts[CUBE_POS + 1]);
    let mut column = UNIT_POS as usize;
    while column < width {
        let mut sum = Vector::<f32, N>::new(0f32);
        let mut at = first;
        while at < end {
            sum += Vector::<f32, N>::cast_from(rows[order[at as usize] as usize * width + column]);
            at += 1u32;
        }
        sums[ids[CUBE_POS] as usize * width + column] = Vector::<F, N>::cast_from(sum);
        column += CUBE_DIM as usize;
    }
}

/// `add_rows` on the device.
fn add_rows(rows: CubeTensor, order: CubeTensor, starts: CubeTensor, ids: CubeTensor, classes: usize) -> CubeTensor {
    let rows = Rows::new(rows);
    let sums = zeros(rows.tensor.device.clone(), [classes, rows.width].into(), rows.tensor.dtype);
    let found = ids.shape().num_elements();
    if found == 0 {
        return sums;
    }
    let (client, dtype) = (rows.client(), kind(rows.tensor.dtype));
    let Grid { count, dim, vector, width, .. } = Grid::new(&client, found, rows.width);
    add_rows_kernel::launch(
        &client,
        count,
        dim,
        vector,
        rows.tensor.into_buffer_arg(),
        order.into_buffer_arg(),
        starts.into_buffer_arg(),
        ids.into_buffer_arg(),
        sums.clone().into_buffer_arg(),
        found,
        width,
        dtype,
    );
    sums
}

/// What enters burn's dispatch; nothing of it is differentiated.
#[backend_extension(Cube, Fusion)]
trait EmbeddingOps: Backend {
    /// Sums of the rows `[N, H]` of equal ids, `[V, H]`: those of id `ids[i]` stand at `order[starts[i]..starts[i + 1]]`.
    #[fusion(meta = |rows, _order, _starts, _ids, classes| TensorSpec::new([*classes, rows.shape[1]].into(), rows.dtype))]
    fn add_rows(
        rows: FloatTensor<Self>,
        order: IntTensor<Self>,
        starts: IntTensor<Self>,
        ids: IntTensor<Self>,
        classes: usize,
    ) -> FloatTensor<Self>;
}

impl EmbeddingOps for CubeBackend {
    fn add_rows(
        rows: CubeTensor,
        order: CubeTensor,
        starts: CubeTensor,
        ids: CubeTensor,
        classes: usize,
    ) -> CubeTensor {
        add_rows(rows, order, starts, ids, classes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_listed_by_id_and_in_order() {
        let found = Occurrences::new(&[7, 2, 7, 0, 2, 7]);
        let expected = Occurrences { order: vec![3, 1, 4, 0, 2, 5], starts: vec![0, 1, 3, 6], ids: vec![0, 2, 7] };
        assert_eq!(found, expected);
        assert_eq!(Occurrences::new(&[]), Occurrences { order: vec![], starts: vec![0], ids: vec![] });
    }
}
