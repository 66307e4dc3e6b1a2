//! Tensors of the ranks that parameters have, so that lists of them take one loop.

use std::ops::{Add, Mul, Sub};

use anyhow::{Result, anyhow};
use burn::tensor::{Device, Gradients, Tensor, TensorData};

use crate::network::kernels::{self, Grads, moved};

/// A vector or a matrix.
#[derive(Clone, Debug)]
pub enum AnyTensor {
    /// `[n]`.
    Vector(Tensor<1>),
    /// `[rows, columns]`.
    Matrix(Tensor<2>),
}

/// The same expression for a tensor of either rank.
macro_rules! with {
    ($any:expr, $tensor:ident => $result:expr) => {
        match $any {
            AnyTensor::Vector($tensor) => $result,
            AnyTensor::Matrix($tensor) => $result,
        }
    };
}

/// The tensor that an expression makes of one of either rank.
macro_rules! map {
    ($any:expr, $tensor:ident => $result:expr) => {
        match $any {
            AnyTensor::Vector($tensor) => AnyTensor::Vector($result),
            AnyTensor::Matrix($tensor) => AnyTensor::Matrix($result),
        }
    };
}

impl AnyTensor {
    /// ParameterView that came from the host; `None` if they're neither a vector nor a matrix.
    pub fn from_data(data: TensorData, device: &Device) -> Option<Self> {
        match data.shape().len() {
            1 => Some(Self::Vector(Tensor::from_data(data, device))),
            2 => Some(Self::Matrix(Tensor::from_data(data, device))),
            _ => None,
        }
    }

    /// Its dimensions.
    pub fn shape(&self) -> Vec<usize> {
        with!(self, tensor => tensor.dims().to_vec())
    }

    /// How many elements it has.
    pub fn elements(&self) -> usize {
        self.shape().iter().product()
    }

    /// Where it lives.
    pub fn device(&self) -> Device {
        with!(self, tensor => tensor.device())
    }

    /// The vector, if it is one.
    pub fn as_vector(&self) -> Option<&Tensor<1>> {
        match self {
            Self::Vector(tensor) => Some(tensor),
            Self::Matrix(_) => None,
        }
    }

    /// The matrix, if it is one.
    pub fn as_matrix(&self) -> Option<&Tensor<2>> {
        match self {
            Self::Vector(_) => None,
            Self::Matrix(tensor) => Some(tensor),
        }
    }

    /// Its values on the host, row by row.
    ///
    /// # Errors
    /// The device's.
    pub fn into_data(self) -> Result<TensorData> {
        let data = with!(self, tensor => tensor.try_into_data());
        data.map_err(|error| anyhow!("can't read a tensor from the device: {error}"))
    }

    /// The same on another device; itself where it's there already.
    ///
    /// # Errors
    /// The devices'.
    pub fn on(self, device: &Device) -> Result<Self> {
        Ok(map!(self, tensor => moved(tensor, device)?))
    }

    /// Without autodiff.
    pub fn inner(self) -> Self {
        map!(self, tensor => tensor.inner())
    }

    /// A leaf of autodiff's graph, which keeps gradients if it `learns`.
    pub fn leaf(self, learns: bool) -> Self {
        map!(self, tensor => tensor.autodiff().set_require_grad(learns))
    }

    /// Whether it keeps gradients.
    pub fn is_require_grad(&self) -> bool {
        with!(self, tensor => tensor.is_require_grad())
    }

    /// Takes its gradient out of those of a backward pass.
    pub fn grad_remove(&self, gradients: &mut Gradients) -> Option<Self> {
        Some(map!(self, tensor => tensor.grad_remove(gradients)?))
    }

    /// Its gradient among those of a backward pass.
    pub fn grad(&self, gradients: &Gradients) -> Option<Self> {
        Some(map!(self, tensor => tensor.grad(gradients)?))
    }

    /// Adds a gradient of this leaf to those that a rule gives.
    ///
    /// # Panics
    /// On a gradient of another rank.
    pub(super) fn push_grad(self, grad: Self, grads: &mut Grads) {
        match (self, grad) {
            (Self::Vector(leaf), Self::Vector(grad)) => grads.push(leaf, grad),
            (Self::Matrix(leaf), Self::Matrix(grad)) => grads.push(leaf, grad),
            (leaf, grad) => {
                unreachable!("a gradient has its parameter's rank: {:?} and {:?}", leaf.shape(), grad.shape())
            }
        }
    }

    /// Nothing of the same rank, on the same device.
    pub(super) fn empty(&self) -> Self {
        let device = self.device();
        match self {
            Self::Vector(_) => Self::Vector(Tensor::empty([0], &device)),
            Self::Matrix(_) => Self::Matrix(Tensor::empty([0, 0], &device)),
        }
    }

    /// As many zeros of f32, on the same device.
    pub fn zeros(&self) -> Self {
        let device = self.device();
        match self {
            Self::Vector(tensor) => Self::Vector(Tensor::zeros(tensor.dims(), &device)),
            Self::Matrix(tensor) => Self::Matrix(Tensor::zeros(tensor.dims(), &device)),
        }
    }

    /// The sum of magnitudes, `[1]`: finite only if each element is.
    pub fn magnitude(&self) -> Tensor<1> {
        with!(self, tensor => tensor.clone().abs().sum())
    }

    /// All rows, one after the other.
    pub fn flat(self) -> Tensor<1> {
        match self {
            Self::Vector(tensor) => tensor,
            Self::Matrix(tensor) => tensor.flatten(0, 1),
        }
    }

    /// A tensor of this shape out of its rows, one after the other; a vector where it doesn't name rows and columns.
    pub fn folded(rows: Tensor<1>, shape: &[usize]) -> Self {
        match *shape {
            [count, columns] => Self::Matrix(rows.reshape([count, columns])),
            _ => Self::Vector(rows),
        }
    }

    /// Some rows of a matrix, or elements of a vector.
    pub(super) fn rows(self, start: usize, count: usize) -> Self {
        map!(self, tensor => tensor.narrow(0, start, count))
    }

    /// A matrix the other way around; a vector as it is.
    pub(super) fn transposed(self) -> Self {
        match self {
            Self::Vector(tensor) => Self::Vector(tensor),
            Self::Matrix(tensor) => Self::Matrix(tensor.transpose()),
        }
    }

    /// Multiplied by a tensor of one element, `[1]`.
    #[must_use]
    pub fn scaled(self, factor: &Tensor<1>) -> Self {
        match self {
            Self::Vector(tensor) => Self::Vector(tensor * factor.clone()),
            Self::Matrix(tensor) => Self::Matrix(tensor * factor.clone().reshape([1; 2])),
        }
    }

    /// Calls `f` with the elements, row by row; `None` if they aren't f32 in burn's flex backend.
    pub fn with_slice<R>(&self, f: impl FnOnce(&[f32]) -> R) -> Option<R> {
        with!(self, tensor => kernels::with_slice(tensor, f))
    }

    /// Lets `f` change the elements in place, as [`kernels::with_slice_mut`] does.
    ///
    /// # Errors
    /// The tensor, if it isn't f32 in burn's flex backend.
    #[expect(clippy::result_large_err, reason = "a tensor either way")]
    pub fn with_slice_mut(self, f: impl FnOnce(&mut [f32])) -> Result<Self, Self> {
        match self {
            Self::Vector(tensor) => kernels::with_slice_mut(tensor, f).map(Self::Vector).map_err(Self::Vector),
            Self::Matrix(tensor) => kernels::with_slice_mut(tensor, f).map(Self::Matrix).map_err(Self::Matrix),
        }
    }

    /// # Panics
    /// On tensors of different ranks, as tensors of different shapes do.
    fn zip(self, other: Self, vectors: fn(Tensor<1>, Tensor<1>) -> Tensor<1>, matrices: Matrices) -> Self {
        match (self, other) {
            (Self::Vector(a), Self::Vector(b)) => Self::Vector(vectors(a, b)),
            (Self::Matrix(a), Self::Matrix(b)) => Self::Matrix(matrices(a, b)),
            (a, b) => unreachable!("a parameter's tensors have one rank: {:?} and {:?}", a.shape(), b.shape()),
        }
    }
}

type Matrices = fn(Tensor<2>, Tensor<2>) -> Tensor<2>;

impl From<Tensor<1>> for AnyTensor {
    fn from(tensor: Tensor<1>) -> Self {
        Self::Vector(tensor)
    }
}

impl From<Tensor<2>> for AnyTensor {
    fn from(tensor: Tensor<2>) -> Self {
        Self::Matrix(tensor)
    }
}

impl TryFrom<AnyTensor> for Tensor<1> {
    type Error = AnyTensor;

    fn try_from(tensor: AnyTensor) -> Result<Self, AnyTensor> {
        match tensor {
            AnyTensor::Vector(tensor) => Ok(tensor),
            AnyTensor::Matrix(_) => Err(tensor),
        }
    }
}

impl TryFrom<AnyTensor> for Tensor<2> {
    type Error = AnyTensor;

    fn try_from(tensor: AnyTensor) -> Result<Self, AnyTensor> {
        match tensor {
            AnyTensor::Vector(_) => Err(tensor),
            AnyTensor::Matrix(tensor) => Ok(tensor),
        }
    }
}

impl Add for AnyTensor {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        self.zip(other, Add::add, Add::add)
    }
}

impl Sub for AnyTensor {
    type Output = Self;

    fn sub(self, other: Self) -> Self {
        self.zip(other, Sub::sub, Sub::sub)
    }
}

impl Mul<f32> for AnyTensor {
    type Output = Self;

    fn mul(self, factor: f32) -> Self {
        map!(self, tensor => tensor * factor)
    }
}
