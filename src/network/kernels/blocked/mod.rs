//! Attention, linear layers and the cross-entropy of the output layer, put together of the backend's matrix products and of
//! what somebody computes [`Between`] them: kernels of our own on GPUs, tensor operations elsewhere.
//!
//! Scores and logits exist a block at a time, and the backward pass makes them again.

mod attention;
mod between;
mod cross_entropy;
mod linear;

pub use attention::SCORES;
pub(super) use attention::{attention, grouped_attention};
pub(super) use between::{Between, LossRows, Softmax};
pub use cross_entropy::LOGITS;
pub(super) use cross_entropy::linear_cross_entropy;
pub(super) use linear::linear;
