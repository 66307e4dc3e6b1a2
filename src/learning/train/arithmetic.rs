//! How much is computed: floating-point operations of the steps that were taken, whatever way they were computed in.

use crate::network::{
    batch::Step,
    model::{Network, Parameters, WeightId},
};

/// What a network takes for each thing that is learned from.
///
/// 6 N + 12 L H T a token, with N the weights in layers, L layers of width H and sequences of T tokens (Chowdhery et al.
/// 2022, appendix B, <https://arxiv.org/abs/2204.02311>), and 6 V H for each token that is predicted over a vocabulary of
/// V. Weights that aren't learned take 4 of the 6. What is computed twice to save memory isn't counted twice, and padding
/// isn't counted.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Arithmetic {
    token: f64,
    /// For each pair of tokens of one sequence.
    pair: f64,
    target: f64,
}

impl Arithmetic {
    pub(super) fn of(network: &Network) -> Self {
        let parameters = network.parameters();
        let (output, _) = network.architecture().output();
        let sizes = network.architecture().sizes();
        let token = parameters.layers().map(|id| operations(parameters, id)).sum();
        let target = operations(parameters, output);
        Self { token, pair: 12.0 * sizes.layers as f64 * sizes.hidden as f64, target }
    }

    /// Of all batches of a step.
    pub(super) fn step(&self, step: &Step) -> f64 {
        let of_batch = |batch: &crate::network::batch::Batch| {
            let lengths = batch.examples.iter().map(|example| f64::from(example.length));
            let (tokens, pairs) =
                lengths.fold((0.0, 0.0), |(n, squares), length| (n + length, squares + length * length));
            self.token * tokens + self.pair * pairs + self.target * batch.targets.len() as f64
        };
        step.batches.iter().map(of_batch).sum()
    }
}

fn operations(parameters: &Parameters, id: WeightId) -> f64 {
    let (_, shape) = parameters.described(id);
    let factor = if parameters.is_trainable(id) { 6.0 } else { 4.0 };
    factor * shape.map(|size| size as f64).iter().product::<f64>()
}
