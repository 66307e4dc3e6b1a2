//! Tensors: model families and their building blocks, kernels, the devices that they run on, the files that they lie in.

pub mod batch;
pub mod checkpoint;
pub mod device;
pub mod kernels;
pub mod model;
