//! A recipe loaded, planned, run and followed; searches over many of them.

pub mod sweep;
