//! Matrix products by burn's backends.

use std::sync::atomic::{AtomicBool, Ordering};

use burn::tensor::{Device, Tensor};

/// Whether GPU backends don't time kernels for a product, but take the first that fits.
static UNTUNED: AtomicBool = AtomicBool::new(false);

/// See [`super::stop_tuning`].
pub(super) fn stop_tuning() {
    UNTUNED.store(true, Ordering::Relaxed);
}

/// See [`super::matmul()`]; of stacks of equally many matrices too.
pub(super) fn matmul<const D: usize>(a: Tensor<D>, b: Tensor<D>) -> Tensor<D> {
    if !has_wrong_products(&a.device()) {
        #[cfg(feature = "gpu")]
        if UNTUNED.load(Ordering::Relaxed) && [&a, &b].iter().all(|x| is_on_plain_gpu(x)) {
            return super::gpu::untuned(a, b);
        }
        return a.matmul(b);
    }
    let (a_shape, b_shape) = (a.dims(), b.dims());
    let [m, k, n] = [a_shape[D - 2], a_shape[D - 1], b_shape[D - 1]];
    let stack: usize = a_shape[..D - 2].iter().product();
    let mut shape = a_shape;
    shape[D - 1] = n;
    (a.reshape([stack, m, k, 1]) * b.reshape([stack, 1, k, n])).sum_dim(2).reshape(shape)
}

/// Whether cubecl 0.11's staged matrix products can't be trusted here: with SwiftShader they give zeros and partial
/// sums. Software drivers are for tests, so it's enough that products come out right.
fn has_wrong_products(device: &Device) -> bool {
    let software: &[Device] = &[
        #[cfg(feature = "vulkan")]
        Device::vulkan(burn::tensor::DeviceKind::Cpu),
        #[cfg(feature = "wgpu")]
        Device::wgpu(burn::tensor::DeviceKind::Cpu),
    ];
    software.contains(device)
}

/// Whether nothing of a tensor is recorded for a backward pass, and a GPU has it.
#[cfg(feature = "gpu")]
fn is_on_plain_gpu<const D: usize>(x: &Tensor<D>) -> bool {
    matches!(x.device().as_dispatch(), burn::backend::DispatchDevice::Cube(_))
}
