//! Copies of tensors on another device.

use anyhow::{Result, anyhow};
use burn::tensor::{Device, Tensor, kind::Basic};

/// A tensor's elements on another device, brought there by way of the host, which every backend can; the tensor itself
/// where it's there already.
///
/// # Errors
/// The devices'.
pub fn moved<const D: usize, K: Basic>(tensor: Tensor<D, K>, device: &Device) -> Result<Tensor<D, K>> {
    if tensor.device() == *device {
        return Ok(tensor);
    }
    let dtype = tensor.dtype();
    let data = tensor.try_into_data().map_err(|error| anyhow!("can't read from a device: {error}"))?;
    Ok(Tensor::from_data(data, (device, dtype)))
}
