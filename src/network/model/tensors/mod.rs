//! Tensors in safetensors files: one file or the many of a large checkpoint, read and written one tensor at a time, so
//! that no more than one lies in memory beside the model.

#[cfg(test)]
mod fuzz;
mod header;
mod reader;
mod weights;
mod writer;

pub(crate) use reader::Reader;
pub(crate) use weights::Weights;
pub(crate) use writer::{TensorEntry, write, write_in_shards};
