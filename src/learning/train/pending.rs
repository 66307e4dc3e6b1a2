//! Steps that the device still computes.

use std::sync::Arc;

use burn::tensor::Tensor;

/// A step whose loss hasn't been read from the device yet.
pub(super) struct Pending {
    pub(super) step: usize,
    pub(super) objective: String,
    /// The loss and its parts, `[1 + parts]`.
    pub(super) loss: Tensor<1>,
    /// The names of the parts.
    pub(super) parts: Arc<[String]>,
    pub(super) lr: f64,
    pub(super) grad_norm: Tensor<1>,
    /// When it was taken, in seconds since 1970; on asynchronous devices, when all of it was queued.
    pub(super) at: f64,
}
