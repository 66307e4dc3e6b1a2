//! Memory for results, used again and again: fresh pages cost more than what most kernels do with them.
#![expect(unsafe_code)]

use std::{
    collections::BTreeMap,
    mem::MaybeUninit,
    ops::{Deref, DerefMut},
    sync::Mutex,
};

use burn::{
    backend::flex::{FlexTensor, Layout},
    tensor::{Bytes, DType, Shape},
};
use burn_std::{AccessError, AccessPolicy, AllocationController, AllocationProperty};

/// Memory kept for later, at most.
const KEPT: usize = 1 << 30;

/// One part in so many may be too much: batches differ in size from step to step, and without this each size would keep
/// memory of its own.
const SPARE: usize = 4;

/// A cache line. Memory consists of whole ones, so that vectors never straddle two.
#[derive(Clone, Copy)]
#[repr(C, align(64))]
struct Line([f32; 16]);

/// Numbers in memory that goes back to where it came from.
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
    /// The smallest that has at least `from` and at most `to` lines.
    fn take(&mut self, from: usize, to: usize) -> Option<Vec<Line>> {
        let (_, free) = self.free.range_mut(from..=to).find(|(_, free)| !free.is_empty())?;
        let taken = free.pop()?;
        self.lines -= taken.len();
        Some(taken)
    }
}

static POOL: Mutex<Pool> = Mutex::new(Pool { free: BTreeMap::new(), lines: 0 });

/// Room for `n` numbers, which may hold anything.
pub(super) fn room(n: usize) -> Room {
    let lines = size_class(n.div_ceil(16));
    let mut pool = POOL.lock().unwrap_or_else(|e| e.into_inner());
    let found = pool.take(lines, lines + lines / SPARE);
    if found.is_none() {
        // What's a little too small would lie idle from now on: the larger one serves in its stead.
        pool.take(lines - lines / SPARE, lines);
    }
    drop(pool);
    Room { lines: found.unwrap_or_else(|| vec![Line([0.0; 16]); lines]), len: n }
}

/// The next size that has no more than three significant bits, so that batches of about the same size share memory.
fn size_class(lines: usize) -> usize {
    let step = 1 << lines.checked_ilog2().unwrap_or(0).saturating_sub(3);
    lines.next_multiple_of(step)
}

impl Drop for Room {
    fn drop(&mut self) {
        let lines = std::mem::take(&mut self.lines);
        let mut pool = POOL.lock().unwrap_or_else(|e| e.into_inner());
        if (pool.lines + lines.len()) * size_of::<Line>() > KEPT {
            // Sizes that are no longer asked for must not keep those out that are.
            *pool = Pool { free: BTreeMap::new(), lines: 0 };
        }
        pool.lines += lines.len();
        pool.free.entry(lines.len()).or_default().push(lines);
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

/// The numbers as a tensor.
pub(super) fn tensor<const D: usize>(elements: Room, shape: [usize; D]) -> FlexTensor {
    shaped(elements, Shape::from(shape))
}

fn shaped(elements: Room, shape: Shape) -> FlexTensor {
    let bytes = size_of_val::<[f32]>(&elements);
    // SAFETY: all of the room's numbers are initialized.
    let bytes = unsafe { Bytes::from_controller(Box::new(elements), bytes) };
    FlexTensor::new(bytes, Layout::contiguous(shape), DType::F32)
}

/// A few numbers as a tensor.
pub(super) fn vector(elements: Vec<f32>) -> FlexTensor {
    let shape = Shape::from([elements.len()]);
    FlexTensor::new(Bytes::from_elems(elements), Layout::contiguous(shape), DType::F32)
}

/// The same numbers where nobody else has them: the tensor itself if nobody does.
pub(super) fn owned(tensor: FlexTensor) -> FlexTensor {
    let whole = tensor.bytes().len() == tensor.layout().num_elements() * size_of::<f32>();
    if whole && tensor.is_unique() {
        return tensor;
    }
    let mut copy = room(tensor.layout().num_elements());
    copy.copy_from_slice(super::elements(&tensor));
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
        let mut first = room(123_456);
        first[0] = 7.0;
        let address = first.as_ptr();
        drop(tensor(first, [123_456]));
        let again = room(123_450);
        assert_eq!((again.as_ptr(), again.len(), again[0]), (address, 123_450, 7.0));
    }

    #[test]
    fn a_larger_room_serves_smaller_ones_and_takes_the_place_of_a_smaller_one() {
        let address = |room: &Room| room.as_ptr();
        let (small, large) = (room(1_000_003), room(1_200_003));
        let places = [address(&small), address(&large)];
        drop(small);
        drop(large);
        assert_eq!(address(&room(1_000_003)), places[0]);
        assert_eq!(address(&room(1_100_003)), places[1]);
        // Too large for both, and only the nearest goes.
        drop(room(1_300_003));
        let lines: Vec<usize> = [1_000_003, 1_200_003, 1_300_003].map(|n: usize| size_class(n.div_ceil(16))).into();
        let pool = POOL.lock().unwrap();
        let held: Vec<bool> =
            lines.iter().map(|lines| pool.free.get(lines).is_some_and(|free| !free.is_empty())).collect();
        assert_eq!(held.iter().filter(|held| **held).count(), 2, "{held:?}");
        assert!(held[2]);
    }
}
