//! Memory for what is large and stays: in pages of two megabytes where the system has such, since giving out four kilobytes at
//! a time takes longer than filling them.
#![expect(unsafe_code)]

use std::{
    mem::MaybeUninit,
    ops::{Deref, DerefMut},
};

use burn::tensor::Bytes;
use burn_std::{AccessError, AccessPolicy, AllocationController, AllocationProperty};
use memmap2::MmapMut;

/// Fewer bytes come from the heap.
const LARGE: usize = 8 << 20;

/// Bytes, all 0 at first.
pub(super) enum Memory {
    /// Some.
    Heap(Vec<u8>),
    /// Many.
    Pages(MmapMut),
}

/// Pages that are the bytes of a tensor.
struct Owned(MmapMut);

impl Memory {
    pub(super) fn zeroed(bytes: usize) -> Self {
        let pages = (bytes >= LARGE).then(|| MmapMut::map_anon(bytes).ok()).flatten();
        let Some(pages) = pages else { return Self::Heap(vec![0; bytes]) };
        // Where there are none, it's as it was.
        #[cfg(target_os = "linux")]
        let _ = pages.advise(memmap2::Advice::HugePage);
        Self::Pages(pages)
    }

    pub(super) fn into_bytes(self) -> Bytes {
        match self {
            Self::Heap(bytes) => Bytes::from_bytes_vec(bytes),
            Self::Pages(pages) => {
                let size = pages.len();
                // SAFETY: all bytes of a mapping are initialized.
                unsafe { Bytes::from_controller(Box::new(Owned(pages)), size) }
            }
        }
    }
}

impl Deref for Memory {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        match self {
            Self::Heap(bytes) => bytes,
            Self::Pages(pages) => pages,
        }
    }
}

impl DerefMut for Memory {
    fn deref_mut(&mut self) -> &mut [u8] {
        match self {
            Self::Heap(bytes) => bytes,
            Self::Pages(pages) => pages,
        }
    }
}

impl AllocationController for Owned {
    fn alloc_align(&self) -> usize {
        4096
    }

    fn property(&self) -> AllocationProperty {
        AllocationProperty::Other
    }

    unsafe fn memory_mut(&mut self, _: AccessPolicy) -> Result<&mut [MaybeUninit<u8>], AccessError> {
        let bytes: &mut [u8] = &mut self.0;
        // SAFETY: any byte may be a `MaybeUninit`, and callers vouch that they leave none uninitialized.
        Ok(unsafe { std::slice::from_raw_parts_mut(bytes.as_mut_ptr().cast(), bytes.len()) })
    }

    fn memory(&self, _: AccessPolicy) -> Result<&[MaybeUninit<u8>], AccessError> {
        let bytes: &[u8] = &self.0;
        // SAFETY: any byte may be a `MaybeUninit`.
        Ok(unsafe { std::slice::from_raw_parts(bytes.as_ptr().cast(), bytes.len()) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_what_the_bytes_of_a_tensor_are() {
        for size in [0, 5, LARGE - 1, LARGE, LARGE + 4097] {
            let mut memory = Memory::zeroed(size);
            assert_eq!(memory.len(), size);
            assert!(memory.iter().all(|byte| *byte == 0));
            memory.iter_mut().enumerate().for_each(|(at, byte)| *byte = (at % 251) as u8);
            let mut bytes = memory.into_bytes();
            assert!(bytes.iter().enumerate().all(|(at, byte)| *byte == (at % 251) as u8), "{size}");
            if let Some(last) = bytes.last_mut() {
                *last = 252;
                assert_eq!(bytes[size - 1], 252);
            }
        }
    }
}
