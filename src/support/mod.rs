//! What every floor needs and knows no other: how the CPU computes, digests of files that were just written, clocks, keyed
//! random numbers, text hashes, panics as errors, errors with hints, guesses at misspelt names, the units of a text, words as
//! a shell takes them.

pub mod arithmetic;
pub(crate) mod arrivals;
pub mod clock;
mod hint;
pub mod math;
pub mod panics;
pub mod program;
pub mod random;
mod registry;
pub mod shell;
pub(crate) mod suggest;
mod text_hash;
mod units;

pub use hint::{Detailed, Hinted, explained};
pub use registry::{Named, Registry};
pub use text_hash::text_hash;
pub use units::{Unit, units};
