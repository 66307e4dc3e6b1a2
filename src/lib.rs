//! Declarative language-model pipelines; `docs/architecture.md` has the map.
//!
//! The folders are floors, from the ground up; each uses those below it and none above.

pub mod support;

pub mod hub;

pub mod spec;

pub mod engine;

pub mod recipe;

pub mod data;

pub mod network;

pub mod learning;

pub mod stages;

pub mod session;

pub mod surface;
