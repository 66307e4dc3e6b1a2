//! Rotary position embedding in place.

use burn::backend::flex::FlexTensor;

use super::{
    buffer::owned,
    kernel::{Kernel, shape},
    rows,
};
use crate::network::kernels::{Rotary, RotaryPairs, Rotation, simd::simd};

/// See [`crate::network::kernels::rotary`].
#[derive(Clone, Debug)]
pub(super) struct RotaryKernel {
    pub(super) heads: usize,
    pub(super) rotary: Rotary,
}

impl RotaryKernel {
    /// Turns by the angles times `direction`, 1 or -1.
    fn run(&self, x: FlexTensor, direction: f32) -> FlexTensor {
        let [_, width] = shape(&x);
        let Rotary { rotation: Rotation { pairs, layout, offset, .. }, cos, sin, .. } = &self.rotary;
        let size = width / self.heads;
        let mut out = owned(x);
        rows::for_each(out.storage_mut(), width, |first, part| {
            for (i, row) in part.chunks_exact_mut(width).enumerate() {
                let angles = (first + i) * pairs..(first + i + 1) * pairs;
                let (cos, sin) = (&cos[angles.clone()], &sin[angles]);
                match layout {
                    RotaryPairs::Interleaved => turn_neighbours(row, size, *offset, cos, sin, direction),
                    RotaryPairs::Halves => turn_halves(row, size, *offset, cos, sin, direction),
                }
            }
        });
        out
    }
}

simd! {
    fn turn_neighbours(row: &mut [f32], size: usize, offset: usize, cos: &[f32], sin: &[f32], direction: f32) {
        for head in row.chunks_exact_mut(size) {
            let (pairs, _) = head[offset..][..2 * cos.len()].as_chunks_mut::<2>();
            for (([a, b], c), s) in pairs.iter_mut().zip(cos).zip(sin) {
                let s = direction * s;
                (*a, *b) = (*a * c - *b * s, *b * c + *a * s);
            }
        }
    }
}

simd! {
    fn turn_halves(row: &mut [f32], size: usize, offset: usize, cos: &[f32], sin: &[f32], direction: f32) {
        for head in row.chunks_exact_mut(size) {
            let (first, second) = head[offset..][..2 * cos.len()].split_at_mut(cos.len());
            for (((a, b), c), s) in first.iter_mut().zip(second).zip(cos).zip(sin) {
                let s = direction * s;
                (*a, *b) = (*a * c - *b * s, *b * c + *a * s);
            }
        }
    }
}

impl Kernel<1> for RotaryKernel {
    type Saved = ();

    fn forward(&self, [x]: [FlexTensor; 1], _: [bool; 1]) -> (FlexTensor, ()) {
        (self.run(x, 1.0), ())
    }

    /// The transpose of a rotation is its inverse.
    fn backward(&self, (): (), gradient: FlexTensor, _: [bool; 1]) -> [Option<FlexTensor>; 1] {
        [Some(self.run(gradient, -1.0))]
    }
}
