//! What every floor needs and knows no other: clocks, keyed random numbers, text hashes, panics as errors.

pub mod clock;
pub mod panics;
pub mod random;
mod registry;
mod text_hash;

pub use registry::{Named, Registry};
pub use text_hash::text_hash;
