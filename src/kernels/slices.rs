//! The numbers of a tensor on the CPU, without a copy.

use burn::{
    backend::Flex,
    tensor::{DType, Device, Tensor},
};

/// Calls `f` with the elements of an f32 tensor, row by row; `None` if they aren't in burn's flex backend.
pub fn with_slice<const D: usize, R>(tensor: &Tensor<D>, f: impl FnOnce(&[f32]) -> R) -> Option<R> {
    let tensor = tensor.clone().inner().try_into_primitive::<Flex>().ok()?.to_contiguous();
    Some(f(tensor.as_slice()?))
}

/// Lets `f` change the elements of an f32 tensor, row by row; gives the tensor back if it isn't in burn's flex backend.
///
/// The tensor must be without autodiff (`inner()`). It's changed in place unless someone else holds it too, in which
/// case they keep the old elements.
pub fn with_slice_mut<const D: usize>(tensor: Tensor<D>, f: impl FnOnce(&mut [f32])) -> Result<Tensor<D>, Tensor<D>> {
    let device = tensor.device();
    if !on_flex(&device) || device.is_autodiff() || tensor.dtype() != DType::F32 {
        return Err(tensor);
    }
    let kept = |e| unreachable!("a tensor on flex is flex's: {e:?}");
    let mut tensor = tensor.try_into_primitive::<Flex>().unwrap_or_else(kept);
    if tensor.layout().start_offset() != 0
        || tensor.as_slice::<f32>().map(<[f32]>::len) != Some(tensor.storage::<f32>().len())
    {
        tensor = tensor.to_contiguous();
    }
    f(tensor.storage_mut());
    Ok(Tensor::from_primitive::<Flex>(tensor))
}

/// Whether the fused kernels can run here.
pub(super) fn on_flex(device: &Device) -> bool {
    *device == Device::flex()
}
