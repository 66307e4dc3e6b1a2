//! Language models: parameters with Hugging Face's names, building blocks, families, heads, losses and scores.

mod adapters;
mod any_tensor;
mod bert;
pub mod blocks;
mod cache;
mod candidates;
mod chatglm;
mod chatglm2;
mod copy;
pub mod families;
mod family;
mod glm;
mod glm4;
mod gpt2;
mod heads;
mod initial;
mod loss;
mod network;
mod on_disk;
mod outline;
mod parameters;
mod pass;
mod precision;
mod recompute;
mod scores;
mod shapes;
pub(crate) mod tensors;
mod transformer;
mod weights;

pub use any_tensor::AnyTensor;
pub use bert::{Bert, BertConfig};
pub use cache::Cache;
pub use candidates::Candidates;
pub use chatglm::{Chatglm, ChatglmConfig};
pub use chatglm2::{Chatglm2, Chatglm2Config};
pub use copy::copy;
pub use family::{Family, Sizes};
pub use glm::{Glm, GlmConfig};
pub use glm4::{Glm4, Glm4Config};
pub use gpt2::{Gpt2, Gpt2Config};
pub use heads::Pooling;
pub use initial::{Fresh, Initial};
pub use loss::{Counts, LossSettings};
pub use network::Network;
pub use on_disk::OnDisk;
pub use outline::Outline;
pub use parameters::{
    Builder, Frozen, Keep, MatrixId, Parameter, Parameters, Role, Source, VectorId, WeightId, are_finite,
};
pub use pass::{Along, Mode, Pass};
pub use scores::TargetScore;
pub use shapes::{Shape, Shapes};
pub use transformer::{Transformer, TransformerConfig};
pub use weights::Outlook;
