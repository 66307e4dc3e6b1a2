//! Kernels for GPUs, written in CubeCL for whatever burn reaches through it: CUDA, Vulkan, Metal, WebGPU.
//!
//! Matrix products are burn's; what lies between them is one kernel each here, forward and backward, where autodiff would go
//! back through a dozen operations and keep what each of them made. Rows belong to a cube whose units add up by planes.
//! A device that can't do that, or on which a trial comes out wrong, takes the operations of `reference` instead. They compute
//! in f32 and keep results in the type of their tensor; dropout is the hash of [`super::dropout`]; sums are taken in a fixed order.

mod activation;
mod adamw;
mod cross_entropy;
mod dropout_add;
mod embedding;
mod launch;
mod log_softmax;
mod math;
mod matmul;
mod maybe;
mod norm;
mod operations;
mod rotary;
mod rows;
#[cfg(feature = "vulkan")]
mod shared;
mod softmax;
mod sums;
mod trial;

pub(super) use adamw::{Squares, Update};
pub(super) use matmul::untuned;
pub(super) use operations::Gpu;
#[cfg(feature = "vulkan")]
pub(super) use shared::holds as shared_memory_holds;
pub(super) use trial::{give_up, try_out, use_untried};

use burn::tensor::{DType, Tensor};

/// The types of elements that there are kernels for.
const TYPES: [DType; 3] = [DType::F32, DType::BF16, DType::F16];

/// Whether there is a kernel for this tensor.
pub(super) fn applies<const D: usize>(tensor: &Tensor<D>) -> bool {
    let dtype = tensor.dtype();
    TYPES.contains(&dtype) && try_out(&tensor.device().inner(), dtype).is_ok()
}
