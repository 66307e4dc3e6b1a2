//! The passes of a step: batches shared out over devices, in parts that fit into memory, their gradients added up, and
//! scaled where f16 needs it.

use std::{
    borrow::Cow,
    panic::{AssertUnwindSafe, catch_unwind, resume_unwind},
};

use anyhow::{Context, Result, anyhow, bail};
use burn::tensor::Tensor;

use super::{gradients::Gradients, loss_scale::LossScale, reduction::Reduction, settings::Settings};
use crate::{
    network::{
        batch::{Batch, Portion, Step},
        device,
        model::{Counts, Network},
    },
    spec::{LossNormalization, MicroBatch, Precision},
    support::panics,
};

/// How steps are computed, as far as that has turned out by now.
pub(super) struct Passes {
    micro_batch: MicroBatch,
    /// Token places that are computed at a time at most; `None` where nothing limits them.
    pub(super) limit: Option<usize>,
    pub(super) scale: Option<LossScale>,
    /// How the gradients of several devices are brought together.
    pub(super) reduction: Option<Reduction>,
    /// The most token places that each device has been seen to hold.
    held: Vec<usize>,
    /// Pretends that the device holds no more token places than this.
    #[cfg(test)]
    pub(super) room: Option<usize>,
}

/// What a step's passes give.
pub(super) struct Passed {
    /// Those of the whole step, once for each network.
    pub(super) gradients: Vec<Gradients>,
    /// The step's loss, one element.
    pub(super) loss: Tensor<1>,
}

/// What is computed at a time.
struct Part<'a> {
    batch: Cow<'a, Batch>,
    /// What its loss is the mean of.
    counts: Counts,
    /// Batches whose losses the step's is the mean of.
    batches: Option<f32>,
}

/// Why passes gave nothing.
enum Failure {
    /// Memory was lacking for a part of so many token places.
    Memory {
        places: usize,
        said: String,
    },
    Other(anyhow::Error),
}

impl Passes {
    pub(super) fn new(settings: &Settings) -> Self {
        let limit = match settings.micro_batch {
            MicroBatch::Whole => None,
            MicroBatch::Auto => settings.room,
            MicroBatch::Tokens(tokens) => Some(tokens),
        };
        Self {
            micro_batch: settings.micro_batch,
            limit,
            scale: (settings.precision == Precision::F16).then(LossScale::new),
            reduction: None,
            held: Vec::new(),
            #[cfg(test)]
            room: None,
        }
    }

    /// Goes through all batches of a step, shared out over replicas of a network; `note` is told when they're computed in
    /// smaller parts from now on.
    ///
    /// # Errors
    /// Memory that doesn't suffice for what the recipe allows, gradients that are never finite, and the network's.
    pub(super) fn run(
        &mut self,
        networks: &[&Network],
        step: &Step,
        settings: &Settings,
        note: &mut dyn FnMut(&str),
    ) -> Result<Passed> {
        loop {
            match self.attempt(networks, step, settings) {
                Ok(Some(passed)) => return Ok(passed),
                // The step is computed again with another scale, so that none is lost.
                Ok(None) => {}
                Err(Failure::Memory { places, said }) => {
                    self.shrink(places, &said)?;
                    networks.iter().for_each(|network| network.parameters().device().memory_cleanup());
                    let limit = self.limit.unwrap_or(places);
                    note(&format!(
                        "{places} tokens at a time don't fit into the device's memory; goes on with {limit} at a time"
                    ));
                }
                Err(Failure::Other(error)) => return Err(error),
            }
        }
    }

    /// `None` where gradients overflowed and the scale has been changed.
    fn attempt(&mut self, networks: &[&Network], step: &Step, settings: &Settings) -> Result<Option<Passed>, Failure> {
        let scale = self.scale.map(|scale| scale.value);
        let mut sums: Vec<Sum> = networks.iter().map(|network| Sum::new(network, scale)).collect();
        self.held.resize(networks.len(), 0);
        let mut held = self.held.clone();
        let shares = self.parts(step, networks.len(), settings);
        // Devices run behind: each computes while the others are given their parts. So this takes no threads.
        for round in 0..shares.iter().map(Vec::len).max().unwrap_or(0) {
            for (at, share) in shares.iter().enumerate() {
                let Some(Part { batch, counts, batches }) = share.get(round) else { continue };
                let network = networks[at];
                guarded(batch.places(), || {
                    self.pretend(batch);
                    let loss = network.loss(batch, counts, step.pair_weight, &settings.loss)?;
                    sums[at].add(network, batches.map_or(loss.clone(), |batches| loss / batches));
                    // What is larger than all before it is waited for, while it can be undone.
                    if batch.places() > self.held[at] {
                        network
                            .parameters()
                            .device()
                            .sync()
                            .map_err(|error| anyhow!("the device failed: {error:?}"))?;
                    }
                    Ok(())
                })?;
                held[at] = held[at].max(batch.places());
            }
        }
        self.held = held;
        self.finish(sums).map_err(Failure::Other)
    }

    /// What each device has to compute.
    fn parts<'a>(&self, step: &'a Step, devices: usize, settings: &Settings) -> Vec<Vec<Part<'a>>> {
        let mut all = Counts::default();
        step.batches.iter().for_each(|batch| all += Counts::of(batch));
        let parts = |Portion { number, batch }: Portion<'a>| {
            let (counts, batches) = match settings.normalization {
                LossNormalization::Token => (all, None),
                LossNormalization::Batch => (Counts::of(&step.batches[number]), Some(step.batches.len() as f32)),
            };
            let batches_of = match self.limit {
                Some(limit) if batch.places() > limit => {
                    batch.into_owned().parts(limit).into_iter().map(Cow::Owned).collect()
                }
                _ => vec![batch],
            };
            batches_of.into_iter().map(move |batch| Part { batch, counts, batches })
        };
        step.shares(devices).into_iter().map(|share| share.into_iter().flat_map(parts).collect()).collect()
    }

    fn finish(&mut self, mut sums: Vec<Sum>) -> Result<Option<Passed>> {
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
                return Ok(None);
            }
            scale.succeeded();
        }
        Ok(Some(Passed { gradients, loss }))
    }

    /// Halves what is computed at a time.
    ///
    /// # Errors
    /// Where the recipe doesn't allow it, or nothing can be divided any more.
    fn shrink(&mut self, places: usize, said: &str) -> Result<()> {
        if self.micro_batch != MicroBatch::Auto {
            bail!(
                "{places} tokens at a time don't fit into the device's memory: {said}\nhint: `micro_batch: auto` computes \
                 batches in parts that fit; the gradients are those of the whole batch"
            );
        }
        if self.limit.is_some_and(|limit| places > limit) {
            bail!(
                "one row of {places} tokens doesn't fit into the device's memory: {said}\nhint: try a shorter `max_length`, \
                 a smaller model or an `adapter`"
            );
        }
        self.limit = Some((places / 2).max(1));
        Ok(())
    }

    #[cfg(test)]
    fn pretend(&self, part: &Batch) {
        assert!(self.room.is_none_or(|room| part.places() <= room), "out of memory, for a test");
    }

    #[cfg(not(test))]
    fn pretend(&self, _part: &Batch) {}
}

/// Gradients and losses of one device so far.
pub(super) struct Sum {
    pub(super) gradients: Gradients,
    pub(super) loss: Option<Tensor<1>>,
    scale: Option<f32>,
}

impl Sum {
    fn new(network: &Network, scale: Option<f32>) -> Self {
        Self { gradients: Gradients::none(network.parameters()), loss: None, scale }
    }

    fn add(&mut self, network: &Network, loss: Tensor<1>) {
        match self.scale {
            Some(scale) => self.gradients.add(network.parameters(), &loss.clone().mul_scalar(scale)),
            None => self.gradients.add(network.parameters(), &loss),
        }
        let loss = loss.inner();
        self.loss = Some(match self.loss.take() {
            Some(sum) => sum + loss,
            None => loss,
        });
    }
}

/// Tells lack of memory from other failures. Backends panic where it's lacking; other panics go on.
fn guarded(places: usize, pass: impl FnOnce() -> Result<()>) -> Result<(), Failure> {
    match catch_unwind(AssertUnwindSafe(pass)) {
        Ok(Ok(())) => Ok(()),
        Ok(Err(error)) => {
            let said = format!("{error:#}");
            Err(if device::is_lack_of_memory(&said) { Failure::Memory { places, said } } else { Failure::Other(error) })
        }
        Err(panic) => match panics::text(&*panic) {
            Some(said) if device::is_lack_of_memory(said) => Err(Failure::Memory { places, said: said.to_owned() }),
            _ => resume_unwind(panic),
        },
    }
}

#[cfg(test)]
mod tests {
    use burn::tensor::Device;
    use serde_json::{Value, json};

    use super::*;
    use crate::{
        learning::train::{Observer, Progress, Trainer},
        network::batch::{Example, Feed, Layout, Target, lay_out},
        support::random::Key,
    };

    /// Six texts of ten tokens, the same at each step.
    struct Same;

    impl Feed for Same {
        fn steps(&self) -> usize {
            6
        }

        fn step(&self, step: usize) -> Result<Step> {
            let text = |id: u64| {
                let tokens: Vec<u32> = (0..10).map(|at| Key::new(id).at(at).below(24) as u32).collect();
                let targets = (1..10).map(|at| Target { at: at - 1, token: tokens[at as usize] }).collect();
                Example { targets, ..Example::sequence(id, tokens, 0) }
            };
            let examples: Vec<Example> = (0..6).map(text).collect();
            let batch = lay_out(&examples, Layout::Ragged, Key::new(1).at(step as u64));
            Ok(Step { batches: vec![batch], objective: "causal_lm".into(), pair_weight: 1.0 })
        }
    }

    #[derive(Default)]
    struct Listener(Vec<String>);

    impl Observer for Listener {
        fn progressed(&mut self, _progress: &Progress) {}

        fn noted(&mut self, text: &str) {
            self.0.push(text.to_owned());
        }
    }

    /// Losses of the steps, and what was said, on a device that holds so many token places.
    fn train(micro_batch: Value, room: Option<usize>) -> Result<(Vec<f32>, Vec<String>)> {
        let model =
            serde_json::from_value(json!({ "gpt2": { "hidden": 16, "layers": 1, "heads": 2, "max_length": 16 } }))?;
        let network = Network::new(&model, 24, 7, &Device::flex())?;
        let spec = json!({ "steps": 6, "lr": 1e-2, "dropout": 0.1, "micro_batch": micro_batch });
        let mut trainer = Trainer::new(network, Settings::new(&serde_json::from_value(spec)?, 6, None));
        trainer.passes.room = room;
        let mut listener = Listener::default();
        trainer.run(&Same, None, None, &mut listener)?;
        Ok((trainer.curve().points().map(|point| point.loss).collect(), listener.0))
    }

    fn assert_near(found: &[f32], expected: &[f32]) {
        for (found, expected) in found.iter().zip(expected) {
            assert!((found - expected).abs() < 1e-5, "{found} instead of {expected}");
        }
    }

    #[test]
    fn lack_of_memory_halves_the_micro_batch_and_changes_no_loss() {
        let (expected, _) = train(json!("whole"), None).unwrap();
        let (found, said) = train(json!("auto"), Some(25)).unwrap();
        assert_near(&found, &expected);
        let told = |from, to| {
            format!("{from} tokens at a time don't fit into the device's memory; goes on with {to} at a time")
        };
        assert_eq!(said, [told(60, 30), told(30, 15)]);
        assert_near(&train(json!({ "tokens": 20 }), Some(25)).unwrap().0, &expected);
    }

    #[test]
    fn lack_of_memory_is_named_where_nothing_can_be_divided() {
        let error = train(json!("whole"), Some(25)).unwrap_err().to_string();
        assert!(error.starts_with("60 tokens at a time don't fit into the device's memory: out of memory"), "{error}");
        assert!(error.contains("micro_batch: auto"), "{error}");
        let error = train(json!("auto"), Some(5)).unwrap_err().to_string();
        assert!(error.starts_with("one row of 10 tokens doesn't fit"), "{error}");
    }
}
