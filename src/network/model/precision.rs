//! The dtypes that a training pass computes in. Weights, their gradients and the optimizer's moments are f32
//! whatever these are (Micikevicius et al. 2018, <https://arxiv.org/abs/1710.03740>).

use burn::tensor::DType;

use crate::spec::Precision;

/// Dtypes of a pass.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct DTypes {
    /// Of the residual stream.
    pub(super) stream: DType,
    /// Of what is multiplied: weights and the inputs of linear layers, queries, keys and values.
    pub(super) operands: DType,
}

impl From<Precision> for DTypes {
    fn from(precision: Precision) -> Self {
        let [stream, operands] = match precision {
            Precision::F32 => [DType::F32; 2],
            Precision::Bf16 => [DType::BF16; 2],
            Precision::F16 => [DType::F16; 2],
            Precision::Mixed => [DType::F32, DType::BF16],
        };
        Self { stream, operands }
    }
}
