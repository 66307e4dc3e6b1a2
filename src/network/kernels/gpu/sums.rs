//! Sums over the rows of a matrix, as the gradient of a bias is one: many units add up some rows each.

use burn::{
    backend::{Backend, Dispatch, backend_extension, fusion::custom::TensorSpec, tensor::FloatTensor},
    tensor::{DType, Tensor},
};
use burn_cubecl::{
    CubeBackend,
    cubecl::{self, prelude::*},
    tensor::CubeTensor,
};

use super::launch::{Rows, kind, vector};

/// Units of a cube; each has a vector of columns.
const UNITS: usize = 64;
/// Rows that one unit adds up at least, and the most parts that rows are cut into.
const LENGTH: usize = 16;
const PARTS: usize = 512;

/// Sum of the rows of `x [T, H]`, in f32: `[1, H]`. Not for autodiff.
pub(super) fn row_sums(x: Tensor<2>) -> Tensor<2> {
    Tensor::<2>::from_dispatch(Dispatch::column_sums(x.into_dispatch())).sum_dim(0)
}

/// How rows are cut into parts, each with a sum of its own.
pub(super) struct Parts {
    /// Parts.
    pub(super) count: usize,
    /// Rows of one.
    pub(super) length: usize,
    /// Elements of a vector.
    pub(super) vector: usize,
    /// Vectors of a row.
    pub(super) width: usize,
}

impl Parts {
    pub(super) fn new(rows: usize, width: usize) -> Self {
        let length = rows.div_ceil(PARTS).max(LENGTH);
        let vector = vector(width);
        Self { count: rows.div_ceil(length).max(1), length, vector, width: width / vector }
    }

    /// A cube for some columns of each part.
    pub(super) fn cubes(&self) -> CubeCount {
        CubeCount::new_2d(self.width.div_ceil(UNITS) as u32, self.count as u32)
    }

    pub(super) fn dim(&self) -> CubeDim {
        CubeDim::new_1d(UNITS as u32)
    }
}

#[cube(launch)]
fn column_sums_kernel<F: Float, N: Size>(
    x: &[Vector<F, N>],
    sums: &mut [Vector<f32, N>],
    rows: usize,
    width: usize,
    length: usize,
    #[define(F)] _numbers: ElemType,
) {
    let column = (CUBE_POS_X * CUBE_DIM + UNIT_POS) as usize;
    if column >= width {
        terminate!();
    }
    let part = CUBE_POS_Y as usize;
    let mut sum = Vector::<f32, N>::new(0f32);
    let mut row = part * length;
    let end = min(rows, row + length);
    while row < end {
        sum += Vector::<f32, N>::cast_from(x[row * width + column]);
        row += 1;
    }
    sums[part * width + column] = sum;
}

/// `column_sums` on the device.
fn column_sums(x: CubeTensor) -> CubeTensor {
    let x = Rows::new(x);
    let parts = Parts::new(x.rows, x.width);
    let sums = x.room([parts.count, x.width], DType::F32);
    let dtype = kind(x.tensor.dtype);
    column_sums_kernel::launch(
        &x.client(),
        parts.cubes(),
        parts.dim(),
        parts.vector,
        x.tensor.into_buffer_arg(),
        sums.clone().into_buffer_arg(),
        x.rows,
        parts.width,
        parts.length,
        dtype,
    );
    sums
}

/// What enters burn's dispatch; nothing of it is differentiated.
#[backend_extension(Cube, Fusion)]
trait SumOps: Backend {
    /// Sums over parts of the rows of `x [T, H]`: `[parts, H]`.
    #[fusion(meta = |x| TensorSpec::new([Parts::new(x.shape[0], x.shape[1]).count, x.shape[1]].into(), DType::F32))]
    fn column_sums(x: FloatTensor<Self>) -> FloatTensor<Self>;
}

impl SumOps for CubeBackend {
    fn column_sums(x: CubeTensor) -> CubeTensor {
        column_sums(x)
    }
}
