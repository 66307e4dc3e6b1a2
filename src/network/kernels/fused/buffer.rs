//! Memory for results, used again and again: fresh pages cost more than what most kernels do with them.
#![expect(unsafe_code)]

use std::{
    collections::BTreeMap,
    mem::MaybeUninit,
    ops::{Deref, DerefMut},
};

use burn::{
    backend::flex::{FlexTensor, Layout},
    tensor::{Bytes, DType, Shape},
};
use burn_std::{AccessError, AccessPolicy, AllocationController, AllocationProperty};
use parking_lot::Mutex;

/// Memory kept for later, at most.
const KEPT: usize = 1 << 30;

/// One part in so many may be too much: batches differ in size from step to step, and without this each size would keep
/// memory of its own.
const SPARE: usize = 4;

/// A cache line. Memory consists of whole ones, so that vectors never straddle two.
#[derive(Clone, Copy)]
#[repr(C, align(64))]
struct Line([f32; 16]);

/// Elements in memory that goes back to the pool when it's dropped.
pub(super) struct Room {
    lines: Vec<Line>,
    len: usize,
}

/// Memory that nobody uses, by its size.
struct Pool {
    free: BTreeMap<usize, Vec<Vec<Line>>>,
    lines: usize,
}

impl Pool {
    const EMPTY: Self = Self { free: BTreeMap::new(), lines: 0 };

    /// At least so many lines, if there are some that aren't far too many.
    fn take(&mut self, lines: usize) -> Option<Vec<Line>> {
        let found = self.find(lines, lines + lines / SPARE);
        if found.is_none() {
            // What's a little too small would lie idle from now on: the larger one serves in its stead.
            self.find(lines - lines / SPARE, lines);
        }
        found
    }

    /// The smallest that has at least `from` and at most `to` lines.
    fn find(&mut self, from: usize, to: usize) -> Option<Vec<Line>> {
        let (_, free) = self.free.range_mut(from..=to).find(|(_, free)| !free.is_empty())?;
        let found = free.pop()?;
        self.lines -= found.len();
        Some(found)
    }

    fn give_back(&mut self, lines: Vec<Line>) {
        if (self.lines + lines.len()) * size_of::<Line>() > KEPT {
            // Sizes that are no longer asked for must not keep those out that are.
            *self = Self::EMPTY;
        }
        self.lines += lines.len();
        self.free.entry(lines.len()).or_default().push(lines);
    }
}

static POOL: Mutex<Pool> = Mutex::new(Pool::EMPTY);

/// Room for `n` elements, which may hold anything.
pub(super) fn room(n: usize) -> Room {
    let lines = size_class(n.div_ceil(16));
    let found = POOL.lock().take(lines);
    Room { lines: found.unwrap_or_else(|| fresh(lines)), len: n }
}

fn fresh(lines: usize) -> Vec<Line> {
    vec![Line([0.0; 16]); lines]
}

/// The next size that has no more than three significant bits, so that batches of about the same size share memory.
fn size_class(lines: usize) -> usize {
    let step = 1 << lines.checked_ilog2().unwrap_or(0).saturating_sub(3);
    lines.next_multiple_of(step)
}

impl Drop for Room {
    fn drop(&mut self) {
        POOL.lock().give_back(std::mem::take(&mut self.lines));
    }
}

impl Deref for Room {
    type Target = [f32];

    fn deref(&self) -> &[f32] {
        // SAFETY: lines are initialized arrays of f32, without gaps, and there are enough for `len`.
        unsafe { std::slice::from_raw_parts(self.lines.as_ptr().cast(), self.len) }
    }
}

impl DerefMut for Room {
    fn deref_mut(&mut self) -> &mut [f32] {
        // SAFETY: as above, and borrowed exclusively.
        unsafe { std::slice::from_raw_parts_mut(self.lines.as_mut_ptr().cast(), self.len) }
    }
}

impl AllocationController for Room {
    fn alloc_align(&self) -> usize {
        align_of::<Line>()
    }

    fn property(&self) -> AllocationProperty {
        AllocationProperty::Other
    }

    unsafe fn memory_mut(&mut self, _: AccessPolicy) -> Result<&mut [MaybeUninit<u8>], AccessError> {
        let bytes = size_of_val::<[f32]>(self);
        // SAFETY: any byte may be a `MaybeUninit`; the caller writes none that's uninitialized.
        Ok(unsafe { std::slice::from_raw_parts_mut(self.lines.as_mut_ptr().cast(), bytes) })
    }

    fn memory(&self, _: AccessPolicy) -> Result<&[MaybeUninit<u8>], AccessError> {
        // SAFETY: any byte may be a `MaybeUninit`.
        Ok(unsafe { std::slice::from_raw_parts(self.lines.as_ptr().cast(), size_of_val::<[f32]>(self)) })
    }
}

/// The elements as a tensor.
pub(super) fn tensor<const D: usize>(elements: Room, shape: [usize; D]) -> FlexTensor {
    shaped(elements, Shape::from(shape))
}

fn shaped(elements: Room, shape: Shape) -> FlexTensor {
    let bytes = size_of_val::<[f32]>(&elements);
    // SAFETY: all of the room's elements are initialized.
    let bytes = unsafe { Bytes::from_controller(Box::new(elements), bytes) };
    FlexTensor::new(bytes, Layout::contiguous(shape), DType::F32)
}

/// A few elements as a tensor.
pub(super) fn vector(elements: Vec<f32>) -> FlexTensor {
    let shape = Shape::from([elements.len()]);
    FlexTensor::new(Bytes::from_elems(elements), Layout::contiguous(shape), DType::F32)
}

/// The same elements in memory that nobody else refers to: the tensor itself if nobody does.
pub(super) fn owned(tensor: FlexTensor) -> FlexTensor {
    let whole = tensor.bytes().len() == tensor.layout().num_elements() * size_of::<f32>();
    if whole && tensor.is_unique() {
        return tensor;
    }
    let mut copy = room(tensor.layout().num_elements());
    copy.copy_from_slice(super::kernel::elements(&tensor));
    shaped(copy, tensor.layout().shape().clone())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_waste_at_most_an_eighth() {
        for lines in 0..5000 {
            let class = size_class(lines);
            assert!(class >= lines && class - lines <= lines / 8, "{lines}: {class}");
            assert_eq!(size_class(class), class);
        }
    }

    #[test]
    fn memory_is_used_again() {
        let mut pool = Pool::EMPTY;
        let first = fresh(4096);
        let address = first.as_ptr();
        pool.give_back(first);
        assert_eq!(pool.take(4090).map(|again| again.as_ptr()), Some(address));
    }

    #[test]
    fn more_memory_serves_for_less_and_takes_the_place_of_a_little_less() {
        let mut pool = Pool::EMPTY;
        for lines in [1000, 1200] {
            pool.give_back(fresh(lines));
        }
        for (asked, given) in [(1000, 1000), (1100, 1200)] {
            let taken = pool.take(asked).expect("there is enough");
            assert_eq!(taken.len(), given);
            pool.give_back(taken);
        }
        // Too much for both: one of them goes.
        assert!(pool.take(1300).is_none());
        let held: Vec<usize> = pool.free.values().flatten().map(Vec::len).collect();
        assert_eq!((held, pool.lines), (vec![1200], 1200));
    }
}
