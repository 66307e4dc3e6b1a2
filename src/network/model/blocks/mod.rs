//! What transformers are put together from. Blocks hold ids of their parameters, not the parameters.
//!
//! A family describes its layers by a [`LayerDesign`] and puts them between embeddings and a last norm, as a
//! [`Backbone`]; nothing else of a family computes.

mod attention;
mod backbone;
mod decoder;
mod feed_forward;
mod layer;
mod linear;
mod norm;

pub use attention::{AttentionDesign, Projection, RotaryEmbedding, SelfAttention};
pub use backbone::Backbone;
pub use decoder::{CrossAttentionNames, DecoderLayer, EncoderStates};
pub use feed_forward::{Activation, FeedForward};
pub use layer::{Layer, LayerDesign, LayerNames, NormPlacement};
pub use linear::Linear;
pub use norm::{Norm, NormKind};

use burn::tensor::Tensor;

use super::pass::Pass;

/// What stands beside a residual stream: everything up to a last linear layer, and that layer.
pub(super) trait Branch {
    /// `[T, hidden]` to what the last layer takes.
    fn inner(&self, pass: &Pass, x: Tensor<2>) -> Tensor<2>;

    /// The last layer, back to `[T, hidden]`.
    fn last(&self) -> &Linear;
}
