//! Files as memory: what isn't changed is read when it's needed, and shared by all processes that have it.
#![expect(unsafe_code)]

use std::{fs::File, io, mem::MaybeUninit, ops::Range, sync::Arc};

use burn::tensor::Bytes;
use burn_std::{AccessError, AccessPolicy, AllocationController, AllocationProperty};
use memmap2::Mmap;

/// A file, mapped.
#[derive(Clone, Debug)]
pub struct Mapped(Arc<Mmap>);

/// A part of it, which is never written.
struct Part {
    file: Arc<Mmap>,
    range: Range<usize>,
}

impl Mapped {
    /// Maps a file.
    ///
    /// # Errors
    /// The file system's.
    pub fn new(file: &File) -> io::Result<Self> {
        // SAFETY: the memory is the file's for as long as it's mapped. Artifacts and checkpoints are files that are put into
        // place whole and replaced by others, not changed; who changes one nevertheless changes the weights that are read, all
        // values of which are weights, and who makes one shorter ends the process.
        Ok(Self(Arc::new(unsafe { Mmap::map(file) }?)))
    }

    /// Some of its bytes; `None` past its end, or where they don't begin at a multiple of `align`.
    pub fn bytes(&self, range: Range<usize>, align: usize) -> Option<Bytes> {
        let found = self.0.get(range.clone())?;
        if !found.as_ptr().addr().is_multiple_of(align) || found.is_empty() {
            return None;
        }
        let size = found.len();
        let part = Part { file: Arc::clone(&self.0), range };
        // SAFETY: all bytes of a mapped file are initialized.
        Some(unsafe { Bytes::from_controller(Box::new(part), size) })
    }
}

impl AllocationController for Part {
    fn alloc_align(&self) -> usize {
        1
    }

    fn property(&self) -> AllocationProperty {
        AllocationProperty::Other
    }

    unsafe fn memory_mut(&mut self, _: AccessPolicy) -> Result<&mut [MaybeUninit<u8>], AccessError> {
        Err(AccessError::WouldCopy)
    }

    fn memory(&self, _: AccessPolicy) -> Result<&[MaybeUninit<u8>], AccessError> {
        let bytes = &self.file[self.range.clone()];
        // SAFETY: any byte may be a `MaybeUninit`.
        Ok(unsafe { std::slice::from_raw_parts(bytes.as_ptr().cast(), bytes.len()) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_of_a_file_are_its_bytes() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), [1, 2, 3, 4, 5, 6, 7]).unwrap();
        let mapped = Mapped::new(file.as_file()).unwrap();
        assert_eq!(&mapped.bytes(2..6, 2).unwrap()[..], [3, 4, 5, 6]);
        assert!(mapped.bytes(1..5, 2).is_none(), "an odd place");
        assert!(mapped.bytes(2..8, 1).is_none(), "past the end");
    }
}
