//! A way to train a model, and what it takes.

use super::{learning::Learning, memory::Memory, work::Work};
use crate::network::model::Outline;

/// A way to train a model.
#[derive(Clone, Debug)]
pub struct Form {
    /// What is trained: `all of it`, `LoRA, r 8`, …
    pub name: String,
    /// Parameters that are trained.
    pub trained: u64,
    /// Where memory goes.
    pub memory: Memory,
    /// Floating-point operations for each token that is trained on.
    pub flops_per_token: u64,
}

impl Form {
    /// `flops_per_token` is 6 N + 12 L H T for a model that is trained as a whole (Kaplan et al. 2020,
    /// <https://arxiv.org/abs/2001.08361>, with attention as in Chowdhery et al. 2022, appendix B,
    /// <https://arxiv.org/abs/2204.02311>): N counts the weights that a token is multiplied with (tables of embeddings are
    /// not, and the layer that gives logits is for the share of the tokens that are predicted), L layers of width H see T
    /// tokens. Frozen weights take 4 of the 6, as they have no gradients of their own.
    pub(super) fn new(outline: &Outline, learning: &Learning, work: &Work, on_cpu: bool) -> Self {
        let sizes = outline.architecture().sizes();
        let [vocabulary, hidden] = outline.output().map(|size| size as f64);
        let output = vocabulary * hidden * work.predicted;
        let multiplied = outline.shapes.multiplied as f64 + output;
        let learned = learning.multiplied(&outline.shapes) as f64 + if learning.is_all() { output } else { 0.0 };
        let attention = 12.0 * sizes.layers as f64 * sizes.hidden as f64 * work.length as f64;
        let weights = if learning.is_all() { 6.0 * learned } else { 4.0 * multiplied + 6.0 * learned };
        Self {
            name: learning.name().to_owned(),
            trained: learning.trained(&outline.shapes),
            memory: Memory::new(outline, learning, work, on_cpu),
            flops_per_token: (weights + attention) as u64,
        }
    }
}
