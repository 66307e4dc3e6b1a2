//! Declarative language-model pipelines; `docs/architecture.md` has the map.

pub mod batch;
pub mod bench;
pub mod checkpoint;
pub mod cli;
pub mod data;
pub mod device;
pub mod estimate;
pub mod executor;
pub mod generation;
pub mod kernels;
pub mod metrics;
pub mod model;
pub mod objectives;
pub mod panics;
pub mod plan;
pub mod recipe;
pub mod remote;
pub mod report;
pub mod stages;
pub mod store;
pub mod sweep;
pub mod text;
pub mod tracking;
pub mod train;
