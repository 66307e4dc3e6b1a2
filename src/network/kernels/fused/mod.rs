//! Kernels for burn's flex backend.

mod attention;
mod buffer;
mod compact;
mod cross_entropy;
mod dropout_add;
mod embedding;
mod gelu;
mod kernel;
mod layer_norm;
mod linear;
mod math;
mod matrix;
mod operations;
mod reductions;
mod rms_norm;
mod rotary;
mod rows;
mod swiglu;
mod unit;

pub use cross_entropy::CHUNK;
pub(super) use kernel::applies;
pub(super) use operations::Fused;
