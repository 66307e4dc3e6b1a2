//! Language models: parameters with Hugging Face's names, building blocks, families, heads, losses and scores.

pub mod blocks;
mod candidates;
mod family;
mod glm;
mod heads;
mod initial;
mod loss;
mod network;
mod parameters;
mod pass;
mod scores;
pub(crate) mod tensors;
mod weights;

pub use candidates::Candidates;
pub use family::Family;
pub use glm::{Glm, GlmConfig};
pub use heads::Pooling;
pub use initial::{Fresh, Initial};
pub use loss::{Counts, LossSettings};
pub use network::Network;
pub use parameters::{Builder, MatrixId, Parameter, Parameters, Source, VectorId};
pub use pass::{Mode, Pass};
pub use scores::TargetScore;
