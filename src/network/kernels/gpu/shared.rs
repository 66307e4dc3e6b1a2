//! A kernel with memory that the units of a cube share. None of ours needs any, and many of burn's do: for trials of drivers.

use burn::{
    backend::{Backend, Dispatch, backend_extension, fusion::custom::TensorSpec, tensor::FloatTensor},
    tensor::{DType, Device, Tensor, TensorData},
};
use burn_cubecl::{
    CubeBackend,
    cubecl::{self, prelude::*},
    tensor::CubeTensor,
};

use super::launch::Rows;

const UNITS: usize = 32;

/// Whether each unit finds there what its neighbour has left.
pub(in crate::network::kernels) fn holds(device: &Device) -> bool {
    let numbers: Vec<f32> = (0..UNITS).map(|at| at as f32).collect();
    let x = Tensor::<2>::from_data(TensorData::new(numbers.clone(), [1, UNITS]), device);
    let found = Tensor::<2>::from_dispatch(Dispatch::neighbours(x.into_dispatch()));
    let expected = numbers.iter().cycle().skip(1).take(UNITS);
    found.into_data().iter::<f32>().eq(expected.copied())
}

#[cube(launch)]
fn neighbours_kernel(x: &[f32], neighbours: &mut [f32]) {
    let mut shared = Shared::<[f32]>::new_slice(UNITS);
    let at = UNIT_POS as usize;
    shared[at] = x[at];
    sync_cube();
    neighbours[at] = shared[(at + 1) % UNITS];
}

/// What enters burn's dispatch.
#[backend_extension(Cube, Fusion)]
trait SharedOps: Backend {
    /// Each of a row's numbers in the place of the one before.
    #[fusion(meta = |x| TensorSpec::new(x.shape.clone(), DType::F32))]
    fn neighbours(x: FloatTensor<Self>) -> FloatTensor<Self>;
}

impl SharedOps for CubeBackend {
    fn neighbours(x: CubeTensor) -> CubeTensor {
        let x = Rows::new(x);
        let neighbours = x.room([1, UNITS], DType::F32);
        neighbours_kernel::launch(
            &x.client(),
            CubeCount::new_single(),
            CubeDim::new_1d(UNITS as u32),
            x.tensor.into_buffer_arg(),
            neighbours.clone().into_buffer_arg(),
        );
        neighbours
    }
}
