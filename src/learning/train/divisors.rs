//! What a step's loss is the mean of, and so what each thing to learn weighs in it.

use crate::{
    network::{batch::Step, model::Counts},
    spec::LossNormalization,
};

/// What the loss of a batch is divided by.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Divisors {
    /// What its parts are the means of.
    pub counts: Counts,
    /// Batches whose losses the step's is the mean of.
    pub batches: Option<f32>,
}

/// The factors of a step's cross-entropies.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct LossWeights {
    /// Of each token to predict.
    pub target: f32,
    /// Of each choice among candidates.
    pub choice: f32,
    /// Of each sentence pair.
    pub pair: f32,
    /// Of each class.
    pub class: f32,
}

impl Divisors {
    /// Of the batch of this number in a step.
    pub fn of(step: &Step, number: usize, normalization: LossNormalization) -> Self {
        match normalization {
            LossNormalization::Token => {
                let mut counts = Counts::default();
                step.batches.iter().for_each(|batch| counts += Counts::of(batch));
                Self { counts, batches: None }
            }
            LossNormalization::Batch => {
                Self { counts: Counts::of(&step.batches[number]), batches: Some(step.batches.len() as f32) }
            }
        }
    }

    /// What each thing to learn weighs; 0 of those that there are none of.
    pub fn weights(&self, pair_weight: f32) -> LossWeights {
        let Counts { targets, chosen, pairs, classes, .. } = self.counts;
        let share = |count: f32| if count == 0.0 { 0.0 } else { 1.0 / (count * self.batches.unwrap_or(1.0)) };
        LossWeights {
            target: share(targets as f32),
            choice: share(chosen),
            pair: pair_weight * share(pairs as f32),
            class: share(classes),
        }
    }
}
