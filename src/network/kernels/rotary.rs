//! Rotary position embedding (Su et al. 2021, <https://arxiv.org/abs/2104.09864>): which elements are rotated by which angles.

use std::sync::{Arc, OnceLock};

use burn::tensor::{Device, Tensor, TensorData};
use half::f16;

use crate::support::math;

/// Which elements of a head are rotated together.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum RotaryPairs {
    /// `(2i, 2i + 1)` (ChatGLM2, GLM-4).
    Interleaved,
    /// `(i, i + pairs)` (ChatGLM, Llama).
    Halves,
}

/// How positions rotate a head: pair `i` by the angle `position * base^(-i / pairs)`.
///
/// Several may be applied to different parts of a head: ChatGLM's two-dimensional embedding is one of each half.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Rotation {
    /// What the angles fall off by.
    pub base: f64,
    /// Pairs of a head that are rotated.
    pub pairs: usize,
    /// Which elements are a pair.
    pub layout: RotaryPairs,
    /// The first of the head's elements that is rotated; those before it and behind `offset + 2 * pairs` stay.
    pub offset: usize,
    /// Rounds the angle of one position to half precision, as ChatGLM's checkpoints have it.
    pub half: bool,
}

impl Rotation {
    /// The cosines and sines for a batch's positions.
    pub fn at(self, positions: &[u32]) -> Rotary {
        // Single precision where the models' code has it: far positions' angles depend on it.
        let angle = |i: usize| {
            let angle = math::pow(self.base, -(i as f64) / self.pairs as f64) as f32;
            if self.half { f16::from_f32(angle).to_f32() } else { angle }
        };
        let steps: Vec<f32> = (0..self.pairs).map(angle).collect();
        let angles = positions.iter().flat_map(|&p| steps.iter().map(move |step| f64::from(p as f32 * step)));
        let (cos, sin) =
            angles.map(|angle| (math::cos(angle) as f32, math::sin(angle) as f32)).unzip::<_, _, Vec<_>, Vec<_>>();
        Rotary { rotation: self, tokens: positions.len(), cos: cos.into(), sin: sin.into(), uploaded: Arc::default() }
    }
}

/// What [`super::rotary`] rotates a batch's heads by.
#[derive(Clone, Debug)]
pub struct Rotary {
    pub(super) rotation: Rotation,
    pub(super) tokens: usize,
    /// `[tokens, pairs]`.
    pub(super) cos: Arc<[f32]>,
    /// `[tokens, pairs]`.
    pub(super) sin: Arc<[f32]>,
    uploaded: Arc<OnceLock<[Tensor<2>; 2]>>,
}

impl Rotary {
    /// Cosines and sines on the device, `[tokens, pairs]` each; uploaded once for all layers.
    pub(super) fn tensors(&self, device: &Device) -> [Tensor<2>; 2] {
        let upload = || {
            let shape = [self.tokens, self.rotation.pairs];
            // Nothing is learned here, so autodiff has no part in it.
            let device = device.clone().inner();
            [&self.cos, &self.sin].map(|x| Tensor::from_data(TensorData::new(x.to_vec(), shape), &device))
        };
        self.uploaded.get_or_init(upload).clone()
    }
}
