//! What a training is told, and what it tells in the end.

use std::sync::Arc;

use anyhow::Result;

use super::{
    evaluation::Metrics,
    optimizers::{self, UpdateRule},
    schedule::LrSchedule,
};
use crate::{
    network::model::{Candidates, LossSettings},
    spec::{self, LossNormalization, MicroBatch, Precision},
};

/// What training depends on beside the network and the feed.
#[derive(Clone, Debug)]
pub struct TrainSettings {
    /// The learning rates, and how many steps there are.
    pub schedule: LrSchedule,
    /// What becomes of each parameter in a step.
    pub optimizer: Arc<dyn UpdateRule>,
    /// The norm to which gradients are clipped; 0 turns it off.
    pub max_grad_norm: f64,
    /// What is made small.
    pub loss: LossSettings,
    /// What a step's loss is the mean of.
    pub normalization: LossNormalization,
    /// The numbers that losses are computed with.
    pub precision: Precision,
    /// What of a batch is computed at a time.
    pub micro_batch: MicroBatch,
    /// Whether layers are computed again for their gradients, in place of keeping their activations.
    pub gradient_checkpointing: bool,
    /// Padded tokens that fit into the device's memory by estimate, for `micro_batch: auto` to begin with.
    pub max_micro_batch_tokens: Option<usize>,
    /// Steps between two reports.
    pub log_every: usize,
}

impl TrainSettings {
    /// As a recipe has it, for `steps` steps; `candidates` where there are choices to learn.
    ///
    /// # Errors
    /// An optimizer that isn't known, or can't have these settings.
    pub fn new(train: &spec::Train, steps: usize, candidates: Option<Candidates>) -> Result<Self> {
        Ok(Self {
            schedule: LrSchedule::new(train, steps),
            optimizer: optimizers::of(train)?,
            max_grad_norm: train.max_grad_norm,
            loss: LossSettings {
                dropout: train.dropout as f32,
                label_smoothing: train.label_smoothing as f32,
                candidates,
            },
            normalization: train.loss_normalization,
            precision: train.precision,
            micro_batch: train.micro_batch,
            gradient_checkpointing: train.gradient_checkpointing,
            max_micro_batch_tokens: None,
            log_every: train.log_every,
        })
    }
}

/// What came out of training, beside the network.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Outcome {
    /// Mean loss of the last 5 % of the steps.
    pub loss: f64,
    /// Steps done.
    pub steps: usize,
    /// Numbers that the network holds.
    pub parameters: usize,
    /// Those of them that are learned.
    pub learned: usize,
    /// Input tokens without padding of all steps but the first five, over their time without measurements. Where
    /// there are no more than five steps, of all.
    pub tokens_per_second: f64,
    /// Floating-point operations in the same time, as the model needs them: none for padding, none twice.
    pub flops_per_second: f64,
    /// Seconds of that time in which the next step's batches weren't there yet.
    pub waited: f64,
    /// Padded tokens that were computed at a time at most, where that was limited.
    pub micro_batch: Option<usize>,
    /// The most memory that this process has held, where the system tells.
    pub peak_memory_bytes: Option<u64>,
    /// The measurement whose weights the network has now: the steps before it, and the dev metrics. After a pause the
    /// latest one that counts, the weights being the last.
    pub measured: Option<(usize, Metrics)>,
    /// Whether the observer had it stop before its end. Its state is kept then, and the rest is still to be done.
    pub paused: bool,
}
