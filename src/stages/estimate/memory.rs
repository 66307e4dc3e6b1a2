//! Where the memory of a training stage goes. Each size follows from what the program keeps: the CPU's kernels are
//! described in `kernels/fused`, autodiff's graph is made of what they save, and optimizers work in place.

use super::{
    learning::{FLOAT, Learning},
    work::Work,
};
use crate::network::{
    kernels::{BLOCKED_LOGITS, BLOCKED_SCORES, LOGITS},
    model::Outline,
};

/// The program itself: code that was paged in, threads, heap; measured with a model of next to nothing.
const PROGRAM: u64 = 34_000_000;

/// Bytes, by what they're for.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Memory {
    /// The model, and its best state so far and an average where those are kept; with replicas, what is learned of each.
    pub weights: u64,
    /// Their gradients, twice where those of several batches are added up.
    pub gradients: u64,
    /// What the optimizer keeps of each parameter, such as AdamW's two moments.
    pub optimizer: u64,
    /// What the forward pass leaves for the backward pass, and the gradients of a layer's results.
    pub activations: u64,
    /// Logits of some rows, and the second gradient of the embeddings, which they share.
    pub loss: u64,
    /// A layer's results for the rows that are measured on.
    pub measuring: u64,
    /// Texts and tokens.
    pub data: u64,
    /// The program itself.
    pub program: u64,
}

impl Memory {
    /// Of a batch's step at its largest.
    pub(super) fn new(outline: &Outline, learning: &Learning, work: &Work, on_cpu: bool) -> Self {
        let shapes = &outline.shapes;
        let sizes = outline.architecture().sizes();
        let [vocabulary, hidden] = outline.output().map(|size| size as u64);
        let trained = learning.trained(shapes);

        let mut kept = shapes.kept + learning.inputs(shapes);
        if work.recomputes {
            // What each layer is given, and all else of one of them.
            let layers = (sizes.layers as u64).max(1);
            kept = layers * hidden + kept / layers;
        }
        // The gradients of the residual stream, of a branch's result and of its widest part.
        let gradients_of_stream = 2 * hidden + shapes.widest as u64;
        let mut floats = work.tokens * (kept + gradients_of_stream);
        let targets = work.targets();
        let mut rows = targets;
        if on_cpu {
            // Memory comes in sizes with three significant bits: on average a sixteenth more than asked for.
            floats += floats / 16;
            rows = rows.min((LOGITS as u64 / vocabulary.max(1)).clamp(8, 512));
        } else {
            // Kernels leave what the CPU's do. There are two floats for each score of some heads of 64, and each logit.
            let heads = (hidden / 64).max(1);
            floats += floats / 8 + 2 * (heads * work.tokens * work.length).min(BLOCKED_SCORES as u64);
            rows = 2 * rows.min((BLOCKED_LOGITS as u64 / vocabulary.max(1)).max(1));
        }
        let copies = work.replicas - 1 + u64::from(work.keeps_best) + u64::from(work.averages);
        let shared = if learning.is_all() { vocabulary * hidden } else { 0 };
        let layer = (shapes.kept + shapes.inputs) / (sizes.layers as u64).max(1);
        Self {
            weights: learning.weights(shapes) + FLOAT * trained * copies,
            gradients: FLOAT * trained * (work.replicas + u64::from(work.accumulates)),
            optimizer: learning.optimizer_state(shapes, &*work.optimizer) * work.replicas,
            activations: FLOAT * floats,
            loss: FLOAT * (rows * vocabulary + shared + 3 * targets * hidden),
            measuring: FLOAT * work.judged * layer,
            data: if on_cpu { work.data } else { 0 },
            program: if on_cpu { PROGRAM } else { 0 },
        }
    }

    /// All of it: the memory of activations isn't given back while gradients come up, so that nothing takes the place of
    /// anything else.
    pub fn total(&self) -> u64 {
        self.parts().iter().map(|(_, size)| size).sum()
    }

    /// The parts that are there, by name.
    pub fn parts(&self) -> Vec<(&'static str, u64)> {
        let Self { weights, gradients, optimizer, activations, loss, measuring, data, program } = *self;
        let parts = [
            ("weights", weights),
            ("gradients", gradients),
            ("optimizer", optimizer),
            ("activations", activations),
            ("loss", loss),
            ("measuring", measuring),
            ("data", data),
            ("program", program),
        ];
        parts.into_iter().filter(|(_, size)| *size > 0).collect()
    }
}
