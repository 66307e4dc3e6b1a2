//! What every floor needs and knows no other: keyed random numbers, text hashes, panics as errors, guesses at misspelt names.

pub mod panics;
pub mod random;
mod registry;
pub(crate) mod suggest;
mod text_hash;

pub use registry::{Named, Registry};
pub use text_hash::text_hash;
