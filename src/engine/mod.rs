//! A content-addressed runner of a graph of stages: keys, artifacts, leases, states, remotes.

pub mod executor;
pub mod plan;
pub mod remote;
pub mod store;
