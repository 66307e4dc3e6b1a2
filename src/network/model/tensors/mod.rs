//! Tensors in files, safetensors or PyTorch's: one file or the many of a large checkpoint, read one tensor at a time, so that
//! no more than one lies in memory beside the model. What is written is always safetensors.

#[cfg(test)]
mod fuzz;
mod header;
mod reader;
mod torch;
mod weights;
mod writer;

pub use reader::Reader;
pub(crate) use weights::{Elements, Weights};
pub(crate) use writer::{TensorEntry, write, write_in_shards};
