//! What people and trackers see: the command line, reports, TensorBoard and MLflow.

pub mod cli;
pub mod reference;
pub mod report;
pub mod tracking;
