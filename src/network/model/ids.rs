//! What blocks hold of their parameters, and what a parameter is for.

/// Names a vector of [`Parameters`](super::Parameters): its place among the vectors.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub struct VectorId(pub(super) usize);

/// Names a matrix of [`Parameters`](super::Parameters): its place among the matrices.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct MatrixId(pub(super) usize);

/// Names the weight of a linear layer, or a table.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub enum WeightId {
    /// It is a matrix of [`Parameters`](super::Parameters).
    Full(MatrixId),
    /// It is one of [`Parameters::compact`](super::Parameters::compact).
    Compact(usize),
}

/// What a parameter is for, as far as optimizers care.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum WeightRole {
    /// A bias or the scale of a norm, `[n]`.
    Vector,
    /// The weight of a linear layer between hidden states, `[out, in]`.
    Linear,
    /// A table whose rows are looked up; where it's tied, it also gives the logits.
    Embedding,
    /// The weight of a layer that gives logits over tokens or classes.
    Head,
    /// What is learned beside a model that stays as it is.
    Adapter,
}

impl WeightRole {
    /// Whether weight decay applies: to all but vectors.
    pub fn is_decayed(self) -> bool {
        self != Self::Vector
    }
}
