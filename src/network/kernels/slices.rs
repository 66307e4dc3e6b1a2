//! The elements of a tensor on the CPU as a slice, without a copy.

use burn::{
    backend::{Flex, flex::FlexTensor},
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
#[expect(clippy::result_large_err, reason = "a tensor either way")]
pub fn with_slice_mut<const D: usize>(tensor: Tensor<D>, f: impl FnOnce(&mut [f32])) -> Result<Tensor<D>, Tensor<D>> {
    let mut tensor = writable(tensor)?;
    f(tensor.storage_mut());
    Ok(Tensor::from_primitive::<Flex>(tensor))
}

/// The same for several tensors at once; `None` if one of them isn't f32 in burn's flex backend.
pub fn with_slices_mut<const D: usize, const N: usize>(
    tensors: [Tensor<D>; N],
    f: impl FnOnce([&mut [f32]; N]),
) -> Option<[Tensor<D>; N]> {
    let mut found: Vec<FlexTensor> =
        tensors.into_iter().map(writable).collect::<Result<_, _>>().ok().filter(|found: &Vec<_>| found.len() == N)?;
    let slices: Vec<&mut [f32]> = found.iter_mut().map(FlexTensor::storage_mut).collect();
    f(<[&mut [f32]; N]>::try_from(slices).ok()?);
    let tensors: Vec<Tensor<D>> = found.into_iter().map(Tensor::from_primitive::<Flex>).collect();
    tensors.try_into().ok()
}

/// The tensor itself, all of its memory its own elements, row by row.
#[expect(clippy::result_large_err, reason = "a tensor either way")]
fn writable<const D: usize>(tensor: Tensor<D>) -> Result<FlexTensor, Tensor<D>> {
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
    Ok(tensor)
}

/// Whether the fused kernels can run here.
pub(super) fn on_flex(device: &Device) -> bool {
    *device == Device::flex()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tensor_changes_in_place_and_its_other_holders_keep_theirs() {
        let tensor = Tensor::<2>::from_data([[1.0, 2.0], [3.0, 4.0]], &Device::flex());
        let address = with_slice(&tensor, <[f32]>::as_ptr).unwrap();
        let tensor = with_slice_mut(tensor, |x| x[1] = 7.0).unwrap();
        assert_eq!(with_slice(&tensor, |x| (x.as_ptr(), x.to_vec())).unwrap(), (address, vec![1.0, 7.0, 3.0, 4.0]));
        let changed = with_slice_mut(tensor.clone(), |x| x[0] = 0.0).unwrap();
        assert_eq!(with_slice(&tensor, <[f32]>::to_vec).unwrap(), [1.0, 7.0, 3.0, 4.0]);
        assert_eq!(with_slice(&changed, <[f32]>::to_vec).unwrap(), [0.0, 7.0, 3.0, 4.0]);
    }

    #[test]
    fn views_are_read_and_written_row_by_row() {
        let tensor = Tensor::<2>::from_data([[1.0, 2.0], [3.0, 4.0]], &Device::flex());
        assert_eq!(with_slice(&tensor.clone().transpose(), <[f32]>::to_vec).unwrap(), [1.0, 3.0, 2.0, 4.0]);
        let second = with_slice_mut(tensor.narrow(0, 1, 1), |x| x[0] += x.len() as f32).unwrap();
        assert_eq!(with_slice(&second, <[f32]>::to_vec).unwrap(), [5.0, 4.0]);
    }

    #[test]
    fn tensors_of_autodiff_are_read_but_not_written() {
        let tensor = Tensor::<1>::from_data([1.0], &Device::flex()).autodiff().require_grad();
        assert_eq!(with_slice(&tensor, <[f32]>::to_vec).unwrap(), [1.0]);
        assert!(with_slice_mut(tensor, |_| ()).is_err());
    }
}
