//! From rows to examples, from examples to weights, from weights to answers and metrics.

pub mod generation;
pub mod metrics;
pub mod objectives;
pub mod train;
