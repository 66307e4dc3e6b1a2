//! What a training stage will take, before anything is allocated: parameters, memory, arithmetic. No tensor is made; a
//! model is known by the shapes that its constructors note.

mod bytes;
mod estimator;
mod fit;
mod form;
mod learning;
mod length;
mod machine;
mod memory;
mod model;
mod samples;
mod work;

pub use bytes::bytes;
pub use estimator::{Estimate, Estimator};
pub use fit::{Lacking, check, lacking, max_micro_batch_tokens};
pub use form::Form;
pub use length::Lengths;
pub use machine::Machine;
pub use memory::Memory;
pub use model::FactsOf;
pub use samples::Samples;
pub(crate) use work::JUDGED_TOKENS;
