//! The settings of a training, and its outcome.

use std::{collections::BTreeMap, sync::Arc};

use anyhow::Result;

use super::{
    evaluation::Metrics,
    optimizers::{self, UpdateRule},
    schedule::LrSchedule,
};
use crate::{
    network::model::{Answers, Candidates, LossSettings},
    spec::{self, LossNormalization, MicroBatch, Precision},
};

/// What training depends on beside the network and the feed.
#[derive(Clone, Debug)]
pub struct TrainSettings {
    /// The learning rates, and how many steps there are.
    pub schedule: LrSchedule,
    /// The optimizer's update rule.
    pub optimizer: Arc<dyn UpdateRule>,
    /// The norm to which gradients are clipped; 0 turns it off.
    pub max_grad_norm: f64,
    /// The loss.
    pub loss: LossSettings,
    /// How much of the average of the weights each step keeps, where it's the average that is measured and kept.
    pub average: Option<f64>,
    /// What a step's loss is the mean of.
    pub normalization: LossNormalization,
    /// The dtype of the forward and backward pass.
    pub precision: Precision,
    /// How batches are split into micro-batches.
    pub micro_batch: MicroBatch,
    /// Whether layers are recomputed in the backward pass instead of saving their activations.
    pub gradient_checkpointing: bool,
    /// Padded tokens that fit into the device's memory by estimate, for `micro_batch: auto` to begin with.
    pub max_micro_batch_tokens: Option<usize>,
    /// Steps between two reports.
    pub log_every: usize,
}

impl TrainSettings {
    /// From a recipe, for `steps` steps; `candidates` for training on choices among label words.
    ///
    /// # Errors
    /// An optimizer that isn't known, or can't have these settings.
    pub fn new(train: &spec::Train, steps: usize, candidates: Option<Candidates>) -> Result<Self> {
        Ok(Self {
            schedule: LrSchedule::new(train, steps),
            optimizer: optimizers::of(train)?,
            max_grad_norm: train.max_grad_norm,
            loss: LossSettings {
                dropout: train.dropout.unwrap_or(spec::Train::DROPOUT) as f32,
                label_smoothing: train.label_smoothing as f32,
                focal_gamma: 0.0,
                answers: Answers::One,
                candidates,
            },
            average: train.average.map(|average| average.decay),
            normalization: train.loss_normalization,
            precision: train.precision,
            micro_batch: train.micro_batch,
            gradient_checkpointing: train.gradient_checkpointing,
            max_micro_batch_tokens: None,
            log_every: train.log_every,
        })
    }
}

/// The outcome of a training, beside the network.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Outcome {
    /// Mean loss of the last 5 % of the steps.
    pub loss: f64,
    /// The same of each objective by its name, over the steps that have it; empty where there's but one.
    pub losses: BTreeMap<String, f64>,
    /// Steps done.
    pub steps: usize,
    /// Elements of all parameters.
    pub parameters: usize,
    /// Those of them that are trainable.
    pub learned: usize,
    /// Input tokens without padding of all steps but the first five, over their time without measurements. Where
    /// there are no more than five steps, of all.
    pub tokens_per_second: f64,
    /// Floating-point operations in the same time, as the model needs them: none for padding, none twice.
    pub flops_per_second: f64,
    /// Seconds of that time in which the next step's batches weren't there yet.
    pub waited: f64,
    /// Seconds until the device had done the first step that was made: a GPU's kernels are compiled in them.
    pub first_step: Option<f64>,
    /// Padded tokens that were computed at a time at most, where that was limited.
    pub micro_batch: Option<usize>,
    /// The most memory that this process has held, where the system tells.
    pub peak_memory_bytes: Option<u64>,
    /// The measurement whose weights the network has now: the steps before it, and the dev metrics. After a pause the
    /// latest one that counts, the weights being the last.
    pub measured: Option<(usize, Metrics)>,
    /// Whether the observer paused it before its end. Its state is saved then, to be resumed.
    pub paused: bool,
}
