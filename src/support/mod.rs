//! What every floor needs and knows no other: how the CPU computes, keyed random numbers, text hashes, panics as errors.

pub mod arithmetic;
pub mod math;
pub mod panics;
pub mod random;
mod registry;
mod text_hash;

pub use registry::{Named, Registry};
pub use text_hash::text_hash;
