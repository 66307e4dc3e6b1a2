//! What lies between matrix products, by operations.

use burn::tensor::{DType, Tensor};

use super::{losses, softmax::ByOperations};
use crate::network::kernels::{
    AttentionSpans, Dropout,
    blocked::{Between, LossRows, Softmax},
};

/// Burn's operations.
#[derive(Debug)]
pub(in crate::network::kernels) struct Reference;

impl Between for Reference {
    fn softmax(
        &self,
        spans: &AttentionSpans,
        shared: usize,
        heads: usize,
        dropout: Option<&Dropout>,
    ) -> Box<dyn Softmax> {
        Box::new(ByOperations::new(spans, shared, heads, dropout))
    }

    fn losses(
        &self,
        logits: Tensor<2>,
        bias: Option<&Tensor<2>>,
        rows: LossRows,
        wanted: bool,
    ) -> (Tensor<2>, Option<Tensor<2>>) {
        losses::losses(logits, bias, rows, wanted)
    }

    fn row_sums(&self, x: Tensor<2>) -> Tensor<2> {
        x.cast(DType::F32).sum_dim(0)
    }
}
