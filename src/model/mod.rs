//! Language models: parameters with Hugging Face's names, building blocks, families, heads, losses and scores.

mod bert;
pub mod blocks;
mod cache;
mod candidates;
mod family;
mod glm;
mod gpt2;
mod heads;
mod initial;
mod loss;
mod network;
mod on_disk;
mod outline;
mod parameters;
mod pass;
mod scores;
mod shapes;
pub(crate) mod tensors;
mod weights;

pub use bert::{Bert, BertConfig};
pub use cache::Cache;
pub use candidates::Candidates;
pub use family::{Family, Sizes};
pub use glm::{Glm, GlmConfig};
pub use gpt2::{Gpt2, Gpt2Config};
pub use heads::Pooling;
pub use initial::{Fresh, Initial};
pub use loss::{Counts, LossSettings};
pub use network::Network;
pub use on_disk::OnDisk;
pub use outline::Outline;
pub use parameters::{Builder, MatrixId, Parameter, Parameters, Source, VectorId};
pub use pass::{Along, Mode, Pass};
pub use scores::TargetScore;
pub use shapes::{Shape, Shapes};
