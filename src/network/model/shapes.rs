//! What a network would hold and do, noted while its blocks are put together: the same constructors that make a network
//! tell its size, without any tensor.

use super::parameters::MatrixId;

/// A named shape.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Shape<const D: usize> {
    /// The name of the parameter.
    pub name: String,
    /// Its shape.
    pub shape: [usize; D],
}

/// The shapes of all parameters of a network, and what the blocks say of themselves.
#[derive(Clone, Debug, Default)]
pub struct Shapes {
    /// Biases and the scales of norms.
    pub vectors: Vec<Shape<1>>,
    /// Weights of linear layers, `[out, in]`, and embedding tables.
    pub matrices: Vec<Shape<2>>,
    /// Numbers in the matrices that each token is multiplied with: those of linear layers, not tables.
    pub multiplied: u64,
    /// Widths of the inputs of those layers, added up: of each token they're kept from the forward pass for the backward
    /// pass, where the layers are learned.
    pub inputs: u64,
    /// Numbers of each token that are kept beside them, on the CPU.
    pub kept: u64,
    /// The widest input or result of a linear layer.
    pub widest: usize,
    /// Widths of the keys of all self-attentions.
    pub keys: Vec<usize>,
}

impl<const D: usize> Shape<D> {
    /// How many numbers there are.
    pub fn count(&self) -> u64 {
        self.shape.iter().map(|&size| size as u64).product()
    }
}

impl Shapes {
    /// How many numbers all parameters hold together.
    pub fn count(&self) -> u64 {
        self.vectors.iter().map(Shape::count).chain(self.matrices.iter().map(Shape::count)).sum()
    }

    /// The shape of a matrix.
    pub fn matrix(&self, id: MatrixId) -> [usize; 2] {
        self.matrices[id.0].shape
    }

    /// Notes a linear layer, `[out, in]`.
    pub(super) fn multiply(&mut self, shape: [usize; 2]) {
        self.multiplied += shape.map(|size| size as u64).iter().product::<u64>();
        self.inputs += shape[1] as u64;
        self.widest = shape.into_iter().fold(self.widest, usize::max);
    }

    pub(super) fn add_vector(&mut self, name: String, size: usize) -> usize {
        self.vectors.push(Shape { name, shape: [size] });
        self.vectors.len() - 1
    }

    pub(super) fn add_matrix(&mut self, name: String, shape: [usize; 2]) -> usize {
        self.matrices.push(Shape { name, shape });
        self.matrices.len() - 1
    }
}
