//! Where a tensor's elements lie in a file: one after the other, or strewn over a storage by strides.

use std::ops::Range;

use anyhow::{Context, Result, bail, ensure};
use safetensors::tensor::TensorInfo;

use super::values::{Described, Storage};

/// How far it's from one element to the next in each dimension, where they don't lie one after the other.
#[derive(Clone, Debug)]
pub(in super::super) struct Strides(Vec<usize>);

impl Strides {
    /// The elements of a tensor, row by row, out of the bytes of the file that they lie in.
    pub(in super::super) fn gather(&self, info: &TensorInfo, bytes: &[u8]) -> Vec<u8> {
        let size = info.dtype.bitsize() / 8;
        let Some((&width, outer)) = info.shape.split_last() else { return bytes.to_vec() };
        let mut gathered = Vec::with_capacity(info.shape.iter().product::<usize>() * size);
        let step = self.0.last().copied().unwrap_or_default();
        // The row that is gathered, as an index in each outer dimension.
        let mut place = vec![0; outer.len()];
        for _ in 0..outer.iter().product() {
            let start: usize = place.iter().zip(&self.0).map(|(index, stride)| index * stride).sum();
            if step == 1 {
                gathered.extend(&bytes[start * size..][..width * size]);
            } else {
                (0..width).for_each(|index| gathered.extend(&bytes[(start + index * step) * size..][..size]));
            }
            for (index, length) in place.iter_mut().zip(outer).rev() {
                *index += 1;
                if *index < *length {
                    break;
                }
                *index = 0;
            }
        }
        gathered
    }
}

/// Type, shape and place of a tensor, and its strides where they matter. `stored` are the bytes of its storage in the file,
/// which has `size` bytes in all.
///
/// # Errors
/// Tensors that go past their storage, and storages that go past what is there.
pub(super) fn place(
    tensor: &Described,
    storage: &Storage,
    stored: Range<u64>,
    size: u64,
) -> Result<(TensorInfo, Option<Strides>)> {
    let dtype = tensor.dtype.or(storage.dtype).context("nothing says of what type its elements are")?;
    let bytes = (dtype.bitsize() / 8) as u64;
    let needed = storage.elements.checked_mul(storage.dtype.map_or(1, |own| own.bitsize() as u64 / 8));
    let needed = needed.context("its storage is larger than any file")?;
    let present = stored.end.min(size).saturating_sub(stored.start);
    ensure!(needed <= present, "its storage {} is cut off: {present} of {needed} bytes are there", storage.key);
    let elements = needed / bytes;

    let number = |number: &i64| u64::try_from(*number).ok();
    let numbers = |numbers: &[i64]| numbers.iter().map(number).collect::<Option<Vec<u64>>>();
    let (Some(shape), Some(strides)) = (numbers(&tensor.shape), numbers(&tensor.strides)) else {
        bail!("it has the shape {:?} and the strides {:?}, which aren't possible", tensor.shape, tensor.strides);
    };
    ensure!(shape.len() == strides.len(), "its shape {shape:?} doesn't fit its strides {strides:?}");
    let beyond = || format!("its shape {shape:?} goes past its storage of {elements} elements");

    let count = shape.iter().try_fold(1_u64, |count, &length| count.checked_mul(length)).with_context(beyond)?;
    // Rows that are repeated may make more of a file than it holds, but not without bound.
    let total = count.checked_mul(bytes).filter(|&total| total <= size).with_context(beyond)?;
    let first = number(&tensor.offset).and_then(|offset| offset.checked_add(storage.start)).with_context(beyond)?;
    let last = shape
        .iter()
        .zip(&strides)
        .try_fold(first, |last, (&length, &stride)| last.checked_add(length.saturating_sub(1).checked_mul(stride)?));
    let end = if count == 0 { Some(first) } else { last.and_then(|last| last.checked_add(1)) };
    let end = end.filter(|&end| end <= elements).with_context(beyond)?;

    let is_dense = count == 0 || is_dense(&shape, &strides);
    let from = stored.start + first * bytes;
    let to = if is_dense { from + total } else { stored.start + end * bytes };
    let whole = |numbers: &[u64]| numbers.iter().map(|&number| usize::try_from(number)).collect::<Result<Vec<_>, _>>();
    let info = TensorInfo { dtype, shape: whole(&shape)?, data_offsets: (from.try_into()?, to.try_into()?) };
    let strides = if is_dense { None } else { Some(Strides(whole(&strides)?)) };
    Ok((info, strides))
}

/// Whether elements lie one after the other, row by row.
fn is_dense(shape: &[u64], strides: &[u64]) -> bool {
    let mut expected = 1;
    shape.iter().zip(strides).rev().all(|(&length, &stride)| {
        let fits = length == 1 || stride == expected;
        expected *= length;
        fits
    })
}
