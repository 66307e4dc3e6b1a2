//! Linear layer and cross-entropy in one, over a few rows at a time.

use std::sync::Arc;

use burn::backend::flex::FlexTensor;
use rayon::prelude::*;

use super::{
    buffer::{room, tensor, vector},
    kernel::{Kernel, elements, shape},
    math::exp,
    matrix::{By, Matrix, MatrixMut, Store, multiply},
    rows,
};
use crate::{
    network::kernels::simd::{map_sum, max, simd, sum},
    support::math,
};

/// Logits that exist at a time.
pub const CHUNK: usize = 1 << 21;
/// Columns in which a thread sums up gradients of the bias.
const COLUMNS: usize = 1 << 10;

/// See [`crate::network::kernels::linear_cross_entropy`]. The forward pass already computes the gradients.
#[derive(Clone, Debug)]
pub(super) struct LinearCrossEntropy {
    pub(super) targets: Arc<[u32]>,
    pub(super) weights: Arc<[f32]>,
    pub(super) smoothing: f32,
}

/// Gradients for a gradient of 1.
type Gradients = [Option<FlexTensor>; 3];

impl LinearCrossEntropy {
    fn run(
        &self,
        hidden: &FlexTensor,
        weight: &FlexTensor,
        bias: Option<&FlexTensor>,
        tracked: [bool; 3],
    ) -> (FlexTensor, Gradients) {
        let ([n, width], [classes, _]) = (shape(hidden), shape(weight));
        assert!(self.targets.len() == n && self.weights.len() == n, "{n} rows need as many targets and weights");
        assert!(self.targets.iter().all(|&t| (t as usize) < classes), "a target is not one of {classes} classes");
        let (hidden, weight) = (elements(hidden), elements(weight));
        let weights = Matrix::new(weight, classes, width, width);
        let mut d_hidden = tracked[0].then(|| room(n * width));
        let mut d_weight = tracked[1].then(|| room(classes * width));
        let mut d_bias = tracked[2].then(|| vec![0.0; classes]);
        let step = (CHUNK / classes.max(1)).clamp(8, 512).min(n.max(1));
        let mut logits = room(step * classes);
        let mut loss = 0.0;
        for first in (0..n).step_by(step) {
            let count = step.min(n - first);
            let logits = &mut logits[..count * classes];
            let part = Matrix::new(&hidden[first * width..], count, width, width);
            if let Some(bias) = bias {
                let bias = elements(bias);
                logits.par_chunks_mut(classes).for_each(|row| row.copy_from_slice(bias));
            }
            let store = if bias.is_some() { Store::Add } else { Store::Replace };
            multiply(MatrixMut::new(logits, count, classes, classes), store, 1.0, part, weights.t(), By::All);
            loss += self.losses(first, logits, classes, tracked.contains(&true));
            let grads = Matrix::new(logits, count, classes, classes);
            if let Some(d_hidden) = &mut d_hidden {
                let place = MatrixMut::new(&mut d_hidden[first * width..], count, width, width);
                multiply(place, Store::Replace, 1.0, grads, weights, By::All);
            }
            if let Some(d_weight) = &mut d_weight {
                let store = if first == 0 { Store::Replace } else { Store::Add };
                multiply(MatrixMut::new(d_weight, classes, width, width), store, 1.0, grads.t(), part, By::All);
            }
            if let Some(d_bias) = &mut d_bias {
                add_columns(d_bias, logits);
            }
        }
        if let (0, Some(d_weight)) = (n, &mut d_weight) {
            d_weight.fill(0.0);
        }
        let gradients = [
            d_hidden.map(|d| tensor(d, [n, width])),
            d_weight.map(|d| tensor(d, [classes, width])),
            d_bias.map(vector),
        ];
        (vector(vec![loss as f32]), gradients)
    }

    /// Sum of the losses of consecutive rows; replaces their logits by the loss's gradients if asked to.
    fn losses(&self, first: usize, logits: &mut [f32], classes: usize, grads: bool) -> f64 {
        let losses: Vec<f32> = logits
            .par_chunks_mut(classes)
            .enumerate()
            .map(|(i, row)| {
                let (target, weight) = (self.targets[first + i] as usize, self.weights[first + i]);
                row_loss(row, target, weight, self.smoothing, grads)
            })
            .collect();
        losses.into_iter().map(f64::from).sum()
    }
}

simd! {
    /// A row's loss; replaces logits by gradients if asked to.
    fn row_loss(row: &mut [f32], target: usize, weight: f32, smoothing: f32, grads: bool) -> f32 {
        let even = smoothing / row.len() as f32;
        let top = max(row);
        let mut expected = (1.0 - smoothing) * (row[target] - top);
        if smoothing > 0.0 {
            expected += even * sum(row, |x| x - top);
        }
        let total = map_sum(row, |x| exp(x - top));
        if grads {
            let scale = weight / total;
            let even = weight * even;
            for x in row.iter_mut() {
                *x = *x * scale - even;
            }
            row[target] -= weight * (1.0 - smoothing);
        }
        // A weight of 0 stands for a row to leave out, whatever is in it.
        if weight == 0.0 { 0.0 } else { weight * (math::ln_f32(total) - expected) }
    }
}

/// Adds the rows to `sums`.
fn add_columns(sums: &mut [f32], matrix: &[f32]) {
    let width = sums.len();
    sums.par_chunks_mut(COLUMNS).enumerate().for_each(|(i, sums)| {
        for row in matrix.chunks_exact(width) {
            rows::add(sums, &row[i * COLUMNS..][..sums.len()]);
        }
    });
}

/// Multiplies the gradients by that of the loss.
fn scaled<const N: usize>(gradients: [Option<FlexTensor>; N], loss: &FlexTensor) -> [Option<FlexTensor>; N] {
    let by = elements(loss)[0];
    gradients.map(|gradient| {
        let mut gradient = gradient?;
        if by != 1.0 {
            gradient.storage_mut::<f32>().par_chunks_mut(CHUNK).for_each(|part| rows::scale(part, by));
        }
        Some(gradient)
    })
}

impl Kernel<2> for LinearCrossEntropy {
    type Saved = [Option<FlexTensor>; 2];

    fn forward(&self, [hidden, weight]: [FlexTensor; 2], [h, w]: [bool; 2]) -> (FlexTensor, Self::Saved) {
        let (loss, [hidden, weight, _]) = self.run(&hidden, &weight, None, [h, w, false]);
        (loss, [hidden, weight])
    }

    fn backward(&self, saved: Self::Saved, gradient: FlexTensor, _: [bool; 2]) -> [Option<FlexTensor>; 2] {
        scaled(saved, &gradient)
    }
}

impl Kernel<3> for LinearCrossEntropy {
    type Saved = Gradients;

    fn forward(&self, [hidden, weight, bias]: [FlexTensor; 3], tracked: [bool; 3]) -> (FlexTensor, Self::Saved) {
        self.run(&hidden, &weight, Some(&bias), tracked)
    }

    fn backward(&self, saved: Self::Saved, gradient: FlexTensor, _: [bool; 3]) -> [Option<FlexTensor>; 3] {
        scaled(saved, &gradient)
    }
}
