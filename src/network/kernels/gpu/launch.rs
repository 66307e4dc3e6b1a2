//! What every launch needs: tensors a kernel may read and write, vectors, and units for each row.

use burn::{
    backend::TensorMetadata,
    tensor::{DType, Shape},
};
use burn_cubecl::{
    cubecl::{
        calculate_cube_count_elemwise,
        client::Client,
        ir::{ElemType, features::Plane},
        prelude::*,
    },
    kernel::into_contiguous,
    ops::numeric::empty_device_dtype,
    tensor::CubeTensor,
};

/// The most planes that work on one row.
const PLANES: u32 = 8;
/// Vectors of a row that each unit sees before another plane helps.
const VECTORS: usize = 8;

/// A matrix that a kernel reads by rows: contiguous, `[rows, width]`, a tensor's last axis being a row.
pub(super) struct Rows {
    pub(super) tensor: CubeTensor,
    pub(super) rows: usize,
    pub(super) width: usize,
}

impl Rows {
    pub(super) fn new(tensor: CubeTensor) -> Self {
        let tensor = into_contiguous(tensor);
        let shape = tensor.shape();
        let width = shape.last().copied().unwrap_or(1);
        Self { rows: shape.num_elements() / width.max(1), width, tensor }
    }

    /// The same, in memory that nobody else sees.
    pub(super) fn owned(tensor: CubeTensor) -> Self {
        let mut rows = Self::new(tensor);
        if !rows.tensor.can_mut() {
            rows.tensor = rows.tensor.copy();
        }
        rows
    }

    /// What a kernel over the rows is launched with.
    pub(super) fn grid(&self) -> Grid {
        Grid::new(&self.tensor.client, self.rows, self.width)
    }

    pub(super) fn client(&self) -> Client {
        self.tensor.client.clone()
    }

    /// A tensor of another shape or type beside this one, whose memory is still to be written.
    pub(super) fn room(&self, shape: impl Into<Shape>, dtype: DType) -> CubeTensor {
        room(&self.tensor, shape, dtype)
    }
}

/// A tensor on the device of `beside`, whose memory is still to be written.
pub(super) fn room(beside: &CubeTensor, shape: impl Into<Shape>, dtype: DType) -> CubeTensor {
    empty_device_dtype(beside.client.clone(), beside.device.clone(), shape.into(), dtype)
}

/// A cube for each row.
pub(super) struct Grid {
    pub(super) count: CubeCount,
    pub(super) dim: CubeDim,
    /// The most planes of a cube that there may be: groups of units that the hardware runs together, of a size that some
    /// decide on themselves.
    pub(super) planes: u32,
    /// Elements of a vector; rows are made of whole vectors.
    pub(super) vector: usize,
    /// Vectors of a row.
    pub(super) width: usize,
    /// Vectors of a row for each unit, rounded up to a power of two so that there are few kinds of kernels.
    pub(super) slots: usize,
}

impl Grid {
    pub(super) fn new(client: &Client, rows: usize, width: usize) -> Self {
        let vector = vector(width);
        let width = width / vector;
        let properties = client.properties();
        let hardware = &properties.hardware;
        let (least, most) = (hardware.plane_size_min.max(1), hardware.plane_size_max.max(1));
        // Software drivers don't promise what several planes need to work together, and SwiftShader doesn't keep it.
        let at_once = if properties.features.plane.contains(Plane::Ops) { PLANES } else { 1 };
        let units = most * (width.div_ceil(most as usize * VECTORS) as u32).clamp(1, at_once);
        // No axis of a grid may be longer than 65,535 everywhere.
        let across = rows.clamp(1, 1 << 15);
        let count = CubeCount::new_2d(across as u32, rows.div_ceil(across) as u32);
        let slots = width.div_ceil(units as usize).next_power_of_two();
        Self { count, dim: CubeDim::new_1d(units), planes: units / least, vector, width, slots }
    }
}

/// A unit for each vector of all rows.
pub(super) struct Flat {
    pub(super) cubes: CubeCount,
    pub(super) dim: CubeDim,
    /// Elements of a vector; rows are made of whole vectors.
    pub(super) vector: usize,
    /// Vectors in all.
    pub(super) count: usize,
    /// Vectors of a row.
    pub(super) width: usize,
}

impl Flat {
    pub(super) fn new(client: &Client, rows: usize, width: usize) -> Self {
        let vector = vector(width);
        let width = width / vector;
        let count = rows * width;
        let (cubes, dim) = elementwise(client, count);
        Self { cubes, dim, vector, count, width }
    }
}

/// A unit for each of `count` vectors.
pub(super) fn elementwise(client: &Client, count: usize) -> (CubeCount, CubeDim) {
    let dim = CubeDim::new(client, count);
    (calculate_cube_count_elemwise(client, count, dim), dim)
}

/// Elements that are read at once from rows of this width.
pub(super) fn vector(width: usize) -> usize {
    [4, 2].into_iter().find(|size| width.is_multiple_of(*size)).unwrap_or(1)
}

/// A type as kernels know it.
pub(super) fn kind(dtype: DType) -> ElemType {
    burn::backend::cubecl::dtype_to_storage_type(dtype)
}
