//! Everything with tensors: models, the kernels and devices that they run on, batches, and checkpoint files.
//!
//! A [`batch`] of examples goes through a [`model::Network`], whose blocks call the functions of [`kernels`], which choose
//! an implementation by the [`device`] of their tensors; [`checkpoint`] knows the files of a model on disk. Read
//! [`batch`] and [`model`] first.

pub mod batch;
pub mod checkpoint;
pub mod device;
pub mod kernels;
pub mod model;
