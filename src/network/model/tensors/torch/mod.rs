//! Files that PyTorch wrote: `pytorch_model.bin`, `.pt` and the like, as ZIP archives (since 1.6) or in the older format.
//!
//! They say what they hold in pickle, Python's language for building objects, which can call anything that Python knows.
//! Nothing is ever called here. [`pickle`] follows the part of the language that describes tensors, numbers, strings and
//! plain containers, and refuses a file by the first name that stands for anything else. What comes out is where in the
//! file each tensor lies, so that tensors are read like those of a safetensors file, one at a time, from the file itself.
//!
//! This isn't done by a crate, as the one there is (`pytorch-reader`) passes over what it doesn't know instead of refusing
//! it, and doesn't tell where a tensor lies. ZIP archives are listed by the crate `rawzip`, which tells where in a file each entry lies.

mod archive;
mod contents;
#[cfg(test)]
mod fuzz;
mod legacy;
mod pickle;
#[cfg(test)]
mod samples;
#[cfg(test)]
mod tests;
mod values;
mod view;

use std::collections::BTreeMap;

use anyhow::{Result, bail};
use fs_err::File;

use self::archive::Archive;
pub(super) use self::view::Strides;
use super::header::{self, Header};

/// How a ZIP archive begins.
const ZIP: &[u8] = b"PK\x03\x04";
/// How a pickle begins, of protocol 2 and later.
const PICKLE: u8 = 0x80;

/// The tensors of a file, as they lie there.
pub(super) struct Torch {
    /// Type, shape and place of each: the bytes of the file that its elements lie in.
    pub(super) tensors: Header,
    /// Those whose elements don't lie one after the other.
    pub(super) strides: BTreeMap<String, Strides>,
}

/// Whether a file begins like one of PyTorch's. Some safetensors files begin with a pickle's first byte.
pub(super) fn is_torch(start: [u8; 8]) -> bool {
    start.starts_with(ZIP) || (start[0] == PICKLE && !header::is_plausible(start))
}

/// Reads which tensors there are, of a file that begins so and has `size` bytes.
///
/// # Errors
/// Files that are broken or cut off; whatever is neither a tensor nor a plain value in them, by its name; tensors that go
/// past what is stored; files without weights.
pub(super) fn open(file: &File, start: [u8; 8], size: u64) -> Result<Torch> {
    if start.starts_with(ZIP) {
        let archive = Archive::open(file)?;
        let contents = archive.contents()?;
        contents.torch(size, |storage| archive.storage(&storage.key))
    } else {
        let (contents, storages) = legacy::read(file, size)?;
        contents.torch(size, |storage| match storages.get(&storage.key) {
            Some(place) => Ok(place.clone()),
            None => bail!("the numbers of storage {} are missing", storage.key),
        })
    }
}
