//! What a network would hold and do, noted while its blocks are put together: the same constructors that make a network
//! tell its size, without any tensor.

use super::ids::{MatrixId, WeightId, WeightRole};

/// A parameter without its values.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct ParameterShape {
    /// The name of the parameter.
    pub name: String,
    /// What it's for.
    pub role: WeightRole,
    /// Its dimensions.
    pub shape: Vec<usize>,
}

/// The shapes of all parameters of a network, and what the blocks say of themselves.
#[derive(Clone, Debug, Default)]
pub struct ParameterShapes {
    list: Vec<ParameterShape>,
    /// How many of the list are vectors.
    vectors: usize,
    /// Elements of the matrices that each token is multiplied with: those of linear layers, not tables.
    pub multiplied: u64,
    /// Widths of the inputs of those layers, added up: of each token they're kept from the forward pass for the backward
    /// pass, where the layers are learned.
    pub inputs: u64,
    /// Elements of each token that are kept beside them, on the CPU.
    pub kept: u64,
    /// The widest input or result of a linear layer.
    pub widest: usize,
    /// Widths of the keys of all self-attentions.
    pub keys: Vec<usize>,
}

impl ParameterShape {
    /// How many elements it has.
    pub fn count(&self) -> u64 {
        self.shape.iter().map(|&size| size as u64).product()
    }
}

impl ParameterShapes {
    /// How many elements all parameters have together.
    pub fn count(&self) -> u64 {
        self.list.iter().map(ParameterShape::count).sum()
    }

    /// The shapes in the parameters' order, vectors before matrices.
    pub fn iter(&self) -> std::slice::Iter<'_, ParameterShape> {
        self.list.iter()
    }

    /// The shape of a weight or a table.
    pub fn weight(&self, id: WeightId) -> [usize; 2] {
        let WeightId::Full(MatrixId(place)) = id else { unreachable!("only values are held in fewer bits: {id:?}") };
        let shape = &self.list[self.vectors + place].shape;
        [shape[0], shape[1]]
    }

    /// Notes a linear layer, `[out, in]`.
    pub(super) fn multiply(&mut self, shape: [usize; 2]) {
        self.multiplied += shape.map(|size| size as u64).iter().product::<u64>();
        self.inputs += shape[1] as u64;
        self.widest = shape.into_iter().fold(self.widest, usize::max);
    }

    pub(super) fn add_vector(&mut self, name: String, size: usize) -> usize {
        self.list.insert(self.vectors, ParameterShape { name, role: WeightRole::Vector, shape: vec![size] });
        self.vectors += 1;
        self.vectors - 1
    }

    pub(super) fn add_matrix(&mut self, name: String, shape: [usize; 2], role: WeightRole) -> usize {
        self.list.push(ParameterShape { name, role, shape: shape.to_vec() });
        self.list.len() - 1 - self.vectors
    }
}
