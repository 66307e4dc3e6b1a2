//! The header of a safetensors file: which tensors there are, and where. Whatever is wrong with one is said at once, for
//! a file that was cut off or changed on its way is the commonest reason why a checkpoint can't be read.

use std::collections::BTreeMap;

use anyhow::{Context, Result, bail, ensure};
use safetensors::tensor::TensorInfo;
use serde::Deserialize;
use serde_json::Value;

/// Longer headers are a mistake, or meant to fill the memory.
const LONGEST: u64 = 100_000_000;
/// Problems that are reported; more of them only repeat the same.
const MOST: usize = 8;
/// How a pointer of Git LFS begins, which lies in a clone in place of a file that wasn't fetched.
const POINTER: &[u8] = b"version ";

/// The tensors of a file by name, their offsets from where the first one begins.
pub(super) type Header = BTreeMap<String, TensorInfo>;

#[derive(Deserialize)]
struct Raw {
    #[serde(rename = "__metadata__", default)]
    _metadata: Option<Value>,
    #[serde(flatten)]
    tensors: BTreeMap<String, TensorInfo>,
}

/// The length of the header, from the first eight bytes of a file of `size` bytes.
///
/// # Errors
/// Files that hold something else, or not all of their header.
pub(super) fn length(start: [u8; 8], size: u64) -> Result<u64> {
    ensure!(
        !start.starts_with(POINTER),
        "it's a pointer of Git LFS: the file itself wasn't fetched (`git lfs pull` does that)"
    );
    let length = u64::from_le_bytes(start);
    ensure!(is_plausible(start), "it begins neither like safetensors nor like a file of PyTorch's");
    ensure!(length <= size - 8, "it's cut off within its header: {} of {length} bytes are there", size - 8);
    Ok(length)
}

/// Whether a file that begins so can be safetensors: no other format begins with so small a number.
pub(super) fn is_plausible(start: [u8; 8]) -> bool {
    u64::from_le_bytes(start) <= LONGEST
}

/// Reads a header, and holds it against the `size` of the data behind it.
///
/// # Errors
/// Headers that aren't JSON, tensors that overlap, leave holes, have another size than their shape says or go past the
/// end of the file: all that is wrong, a line each.
pub(super) fn parse(json: &[u8], size: u64) -> Result<Header> {
    let Raw { tensors, .. } = serde_json::from_slice(json).context("its header doesn't describe tensors")?;
    let problems = problems(&tensors, size);
    if problems.is_empty() {
        return Ok(tensors);
    }
    let more = problems.len().saturating_sub(MOST);
    let mut report = problems[..problems.len() - more].join("\n");
    if more > 0 {
        report += &format!("\nand {more} more like these");
    }
    bail!(report)
}

fn problems(tensors: &Header, size: u64) -> Vec<String> {
    let mut problems = Vec::new();
    let mut order: Vec<(&String, &TensorInfo)> = tensors.iter().collect();
    order.sort_by_key(|(_, info)| info.data_offsets);
    let (mut end, mut before) = (0, "");
    for (name, info) in order {
        let (from, to) = info.data_offsets;
        let bits = info.shape.iter().try_fold(info.dtype.bitsize(), |bits, &size| bits.checked_mul(size));
        match to.checked_sub(from) {
            None => problems.push(format!("{name} ends, at {to}, before it begins, at {from}")),
            Some(length) if bits != length.checked_mul(8) => {
                let (dtype, shape) = (info.dtype, &info.shape);
                problems.push(format!("{name} has {length} bytes, which its shape {shape:?} of {dtype} doesn't take"));
            }
            Some(_) if from < end => {
                problems.push(format!("{name} overlaps {before}: it begins at {from}, before {end}"))
            }
            Some(_) if from > end => problems.push(format!("the {} bytes before {name} are no tensor's", from - end)),
            Some(_) => {}
        }
        if to as u64 > size {
            problems.push(format!("{name} goes up to {to}, past the end of the data at {size}"));
        }
        if to >= end {
            (end, before) = (to, name);
        }
    }
    if (end as u64) < size {
        problems.push(format!("the last {} bytes are no tensor's", size - end as u64));
    }
    problems
}
