//! Micro-batching: the batches of a step shared out over devices, computed in chunks that fit into memory, their gradients
//! added up, and scaled where f16 needs it.

use std::{
    borrow::Cow,
    panic::{AssertUnwindSafe, catch_unwind, resume_unwind},
};

use anyhow::{Context, Result, bail};
use burn::tensor::Tensor;

use super::{
    accumulated::{Accumulated, Losses},
    divisors::Divisors,
    gradients::Gradients,
    loss_scale::LossScale,
    reduction::Reduction,
    settings::TrainSettings,
};
use crate::{
    network::{
        batch::{Batch, Portion, Step},
        device,
        kernels::watch,
        model::{Counts, Network},
    },
    spec::{LossNormalization, MicroBatch, Precision},
    support::{Hinted, panics},
};

/// How steps are computed, as far as that has turned out by now.
pub(super) struct MicroBatching {
    micro_batch: MicroBatch,
    normalization: LossNormalization,
    /// Padded tokens that are computed at a time at most; `None` where nothing limits them.
    pub(super) max_tokens: Option<usize>,
    pub(super) scale: Option<LossScale>,
    /// How the gradients of several devices are brought together.
    pub(super) reduction: Option<Reduction>,
    /// The most padded tokens that each device has been seen to hold.
    held: Vec<usize>,
}

/// What all chunks of a step give.
pub(super) struct Computed {
    /// Those of the whole step, once for each network.
    pub(super) gradients: Vec<Gradients>,
    /// The step's loss and its parts, `[1 + parts]`.
    pub(super) loss: Tensor<1>,
}

/// What is computed at a time: a micro-batch.
pub(super) struct Chunk<'a> {
    pub(super) batch: Cow<'a, Batch>,
    /// What its loss is the mean of.
    pub(super) counts: Counts,
    /// Batches whose losses the step's is the mean of.
    batches: Option<f32>,
}

/// Computes the loss of a chunk.
pub(super) type Loss<'a> = &'a dyn Fn(&Network, &Chunk<'_>) -> Result<Losses>;

/// Why a step wasn't computed.
enum Failure {
    /// The device's memory didn't suffice for a chunk of so many padded tokens.
    Memory {
        tokens: usize,
        message: String,
    },
    Other(anyhow::Error),
}

impl MicroBatching {
    /// Before the first step.
    pub(super) fn new(settings: &TrainSettings) -> Self {
        let max_tokens = match settings.micro_batch {
            MicroBatch::Whole => None,
            MicroBatch::Auto => settings.max_micro_batch_tokens,
            MicroBatch::Tokens(tokens) => Some(tokens),
        };
        Self {
            micro_batch: settings.micro_batch,
            normalization: settings.normalization,
            max_tokens,
            scale: (settings.precision == Precision::F16).then(LossScale::new),
            reduction: None,
            held: Vec::new(),
        }
    }

    /// Computes all batches of a step, shared out over replicas of a network; `note` gets a message when they're computed
    /// in smaller chunks from now on.
    ///
    /// # Errors
    /// Memory that doesn't suffice for what the recipe allows, gradients that are never finite, and the loss's.
    pub(super) fn run(
        &mut self,
        networks: &[&Network],
        step: &Step,
        loss: Loss<'_>,
        note: &mut dyn FnMut(&str),
    ) -> Result<Computed> {
        loop {
            match self.attempt(networks, step, loss) {
                Ok(Some(computed)) => return Ok(computed),
                // The step is computed again with another scale, so that none is lost.
                Ok(None) => {}
                Err(Failure::Memory { tokens, message }) => {
                    self.shrink(tokens, &message)?;
                    networks.iter().for_each(|network| network.parameters().device().memory_cleanup());
                    let limit = self.max_tokens.unwrap_or(tokens);
                    note(&format!(
                        "{tokens} tokens at a time don't fit into the device's memory; continues with {limit} at a time"
                    ));
                }
                Err(Failure::Other(error)) => return Err(error),
            }
        }
    }

    /// `None` where gradients overflowed and the scale has been changed.
    fn attempt(&mut self, networks: &[&Network], step: &Step, loss: Loss<'_>) -> Result<Option<Computed>, Failure> {
        let scale = self.scale.map(|scale| scale.value);
        let mut sums: Vec<Accumulated> = networks.iter().map(|network| Accumulated::new(network, scale)).collect();
        self.held.resize(networks.len(), 0);
        let mut held = self.held.clone();
        let shares = self.chunks(step, networks.len());
        // Devices run behind: each computes while the others are given their chunks. So this takes no threads.
        for round in 0..shares.iter().map(Vec::len).max().unwrap_or(0) {
            for (at, share) in shares.iter().enumerate() {
                let Some(chunk) = share.get(round) else { continue };
                let (network, tokens) = (networks[at], chunk.batch.slots());
                // All that the network is given, for whoever holds it against what was to be given.
                tracing::trace!(
                    objective = step.objective,
                    batch = ?chunk.batch,
                    counts = ?chunk.counts,
                    batches = chunk.batches.unwrap_or(1.0),
                    pair_weight = step.pair_weight,
                    "computing a micro-batch"
                );
                guarded(tokens, || {
                    let losses = loss(network, chunk)?;
                    sums[at].add(
                        network,
                        match chunk.batches {
                            Some(batches) => losses.over(batches),
                            None => losses,
                        },
                    );
                    // What is larger than all before it is waited for, while it can be undone.
                    if tokens > self.held[at] {
                        sums[at].wait()?;
                    }
                    Ok(())
                })?;
                held[at] = held[at].max(tokens);
            }
        }
        self.held = held;
        self.finish(sums).map_err(Failure::Other)
    }

    /// What each device has to compute.
    fn chunks<'a>(&self, step: &'a Step, devices: usize) -> Vec<Vec<Chunk<'a>>> {
        let chunks = |Portion { number, batch }: Portion<'a>| {
            let Divisors { counts, batches } = Divisors::of(step, number, self.normalization);
            let parts = match self.max_tokens {
                Some(limit) if batch.slots() > limit => {
                    batch.into_owned().parts(limit).into_iter().map(Cow::Owned).collect()
                }
                _ => vec![batch],
            };
            parts.into_iter().map(move |batch| Chunk { batch, counts, batches })
        };
        step.shares(devices).into_iter().map(|share| share.into_iter().flat_map(chunks).collect()).collect()
    }

    fn finish(&mut self, mut sums: Vec<Accumulated>) -> Result<Option<Computed>> {
        if let Some(reduction) = &self.reduction {
            reduction.total(&mut sums)?;
        }
        let loss = sums.first_mut().and_then(|sum| sum.loss.take()).context("the step has no batches")?;
        let mut gradients: Vec<Gradients> = sums.into_iter().map(|sum| sum.gradients).collect();
        if let Some(scale) = &mut self.scale {
            gradients.iter_mut().for_each(|gradients| gradients.multiply(scale.value.recip()));
            // They're the same on all devices.
            if !gradients[0].are_finite()? {
                if !scale.overflowed() {
                    bail!("gradients are not finite in f16 at any scale of the loss");
                }
                watch::forget();
                return Ok(None);
            }
            scale.succeeded();
        }
        Ok(Some(Computed { gradients, loss }))
    }

    /// Halves what is computed at a time.
    ///
    /// # Errors
    /// Where the recipe doesn't allow it, or nothing can be divided any more.
    fn shrink(&mut self, tokens: usize, message: &str) -> Result<()> {
        if self.micro_batch != MicroBatch::Auto {
            bail!(Hinted::with(
                format!("{tokens} tokens at a time don't fit into the device's memory: {message}"),
                "`micro_batch: auto` computes batches in micro-batches that fit; the gradients are those of the whole \
                 batch",
            ));
        }
        if self.max_tokens.is_some_and(|limit| tokens > limit) {
            bail!(Hinted::with(
                format!("one row of {tokens} tokens doesn't fit into the device's memory: {message}"),
                "try a shorter `max_length`, a smaller model or an `adapter`",
            ));
        }
        self.max_tokens = Some((tokens / 2).max(1));
        Ok(())
    }
}

/// Distinguishes out of memory from other failures. Backends panic when out of memory; other panics are resumed.
fn guarded(tokens: usize, compute: impl FnOnce() -> Result<()>) -> Result<(), Failure> {
    // Of something else.
    device::kept_lack_of_memory();
    match catch_unwind(AssertUnwindSafe(compute)) {
        Ok(Ok(())) => Ok(()),
        Ok(Err(error)) => {
            let message = device::lack_of_memory(&format!("{error:#}")).map(str::to_owned);
            let message = message.or_else(device::kept_lack_of_memory);
            Err(message.map_or(Failure::Other(error), |message| Failure::Memory { tokens, message }))
        }
        Err(panic) => match panics::text(&*panic).and_then(device::lack_of_memory) {
            Some(message) => Err(Failure::Memory { tokens, message: message.to_owned() }),
            None => resume_unwind(panic),
        },
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use burn::tensor::Device;
    use serde_json::{Value, json};

    use super::*;
    use crate::support::explained;
    use crate::{
        learning::train::optimizer::Optimizer,
        network::batch::{Example, Layout, Target, lay_out},
        support::random::Key,
    };

    /// Six texts of ten tokens, the same at each step.
    fn step(number: usize) -> Result<Step> {
        let text = |id: u64| {
            let tokens: Vec<u32> = (0..10).map(|at| Key::new(id).at(at).below(24) as u32).collect();
            let targets = (1..10).map(|at| Target { at: at - 1, token: tokens[at as usize] }).collect();
            Example { targets, ..Example::sequence(id, tokens, 0) }
        };
        let examples: Vec<Example> = (0..6).map(text).collect();
        let batch = lay_out(&examples, Layout::Ragged, Key::new(1).at(number as u64));
        Ok(Step { batches: vec![batch], objective: "causal_lm".into(), pair_weight: 1.0 })
    }

    /// Losses of the steps and what was noted, on a device whose memory holds so many padded tokens.
    fn train(micro_batch: Value, memory: Option<usize>) -> Result<(Vec<f32>, Vec<String>)> {
        let model =
            serde_json::from_value(json!({ "gpt2": { "hidden": 16, "layers": 1, "heads": 2, "max_length": 16 } }))?;
        let mut network = Network::new(&model, 24, 7, &Device::flex())?;
        let spec = json!({ "steps": 6, "lr": 1e-2, "dropout": 0.1, "micro_batch": micro_batch });
        let settings = TrainSettings::new(&serde_json::from_value(spec)?, 6, None)?;
        let mut micro_batching = MicroBatching::new(&settings);
        let mut optimizer = Optimizer::new(Arc::clone(&settings.optimizer), settings.max_grad_norm);
        let loss = |network: &Network, chunk: &Chunk<'_>| {
            assert!(memory.is_none_or(|memory| chunk.batch.slots() <= memory), "out of memory, for a test");
            let total = network.loss(&chunk.batch, &chunk.counts, 1.0, &settings.loss)?;
            Ok(Losses { total, parts: Vec::new() })
        };
        let (mut losses, mut notes) = (Vec::new(), Vec::new());
        for number in 0..6 {
            let note = &mut |text: &str| notes.push(text.to_owned());
            let computed = micro_batching.run(&[&network], &step(number)?, &loss, note)?;
            losses.push(computed.loss.into_scalar::<f32>());
            let gradients = computed.gradients.into_iter().next().context("no gradients")?;
            optimizer.step(network.parameters_mut(), gradients, settings.schedule.rate(number))?;
        }
        Ok((losses, notes))
    }

    fn assert_near(found: &[f32], expected: &[f32]) {
        for (found, expected) in found.iter().zip(expected) {
            assert!((found - expected).abs() < 1e-5, "{found} instead of {expected}");
        }
    }

    #[test]
    fn lack_of_memory_halves_the_micro_batch_and_changes_no_loss() {
        let (expected, _) = train(json!("whole"), None).unwrap();
        let (found, notes) = train(json!("auto"), Some(25)).unwrap();
        assert_near(&found, &expected);
        let note = |from, to| {
            format!("{from} tokens at a time don't fit into the device's memory; continues with {to} at a time")
        };
        assert_eq!(notes, [note(60, 30), note(30, 15)]);
        assert_near(&train(json!({ "tokens": 20 }), Some(25)).unwrap().0, &expected);
    }

    #[test]
    fn lack_of_memory_is_named_where_nothing_can_be_divided() {
        let error = explained(&train(json!("whole"), Some(25)).unwrap_err());
        assert!(error.starts_with("60 tokens at a time don't fit into the device's memory: out of memory"), "{error}");
        assert!(error.contains("micro_batch: auto"), "{error}");
        let error = train(json!("auto"), Some(5)).unwrap_err().to_string();
        assert!(error.starts_with("one row of 10 tokens doesn't fit"), "{error}");
    }
}
