//! What pretrain and finetune stages have in common: the model to start from, the loop, and what they write.

use std::{
    cmp::Reverse,
    path::Path,
    sync::{Arc, mpsc::Sender},
};

use anyhow::{Context, Result, bail, ensure};
use serde_json::json;

use super::{
    FROM, TOKENS, first_step,
    measured::Measured,
    origin::{Origin, copy_settings, copy_tokenizer},
    room::Room,
    step_metrics::{of_entry, part_of_loss, so_far},
    task::TrainedFor,
};
use crate::{
    data::text::Tokenizer,
    engine::{
        executor::{Computed, Event, Job, Paused, StepMetrics},
        plan::reached,
        store::{Metrics, unix_time},
    },
    learning::train::{
        self, Cadence, Checkpoints, Curve, CurveEntry, Evaluation, Observer, Outcome, Progress, TrainSettings, Trainer,
    },
    network::{
        device::{self, Kernels, OpenDevice, OpenDevices, made_kernels},
        model::{Candidates, Network},
    },
    spec::{self, MicroBatch, Precision, Rung},
    stages::{
        estimate, metrics,
        training_feed::{Base, TrainingFeed, base},
    },
    support::Hinted,
};

/// A model to train, with its tokenizer.
pub(in crate::stages) struct Start {
    pub network: Network,
    pub tokenizer: Arc<Tokenizer>,
    /// Where it comes from; `None` for a new model.
    pub from: Option<Origin>,
    /// What it was trained for before; `None` for a new model.
    pub before: Option<TrainedFor>,
}

impl Start {
    /// Takes the model in `from`, a stage's or a checkpoint, or makes a new one for the tokenizer of the stage in `tokens`.
    /// With an `adapter`, that alone will be trained. Where `train` doesn't say what dropout there's to be, a checkpoint's
    /// is that of its config. A checkpoint's linear head is kept if it tells these `labels`.
    pub(in crate::stages) fn new(
        job: &Job<'_>,
        from: Option<&spec::Origin>,
        model: Option<&spec::Model>,
        adapter: Option<&spec::Adapter>,
        train: &spec::Train,
        labels: Option<&[String]>,
        device: &OpenDevice,
    ) -> Result<Self> {
        let from = Origin::of(job, &FROM, from);
        let tokens = || Ok(Arc::new(Tokenizer::load(&TOKENS.needed(job)?.path)?));
        let tokenizer = base::tokenizer(from.as_ref(), TOKENS.artifact(job).is_some(), &tokens)?;
        let (network, before) = match (&from, model) {
            (Some(from), _) => {
                let before = TrainedFor::read(&from.model)?;
                let mut network = existing(&from.model, adapter, labels, job.seed, device)?;
                if train.dropout.is_none() && before.from_checkpoint {
                    let rates = network.architecture().dropout();
                    network.drop_at(rates.context("the checkpoint's dropout can't be taken over")?);
                }
                (network, Some(before))
            }
            (None, Some(model)) => {
                let mut network = Network::new(model, tokenizer.vocab_size(), job.seed, &device.device)?;
                network.name_tokens(tokenizer.special);
                (network, None)
            }
            (None, None) => bail!("neither `from` nor `model` says what to start from"),
        };
        let (model, known) = (network.vocabulary(), tokenizer.vocab_size());
        ensure!(known <= model, "the tokenizer has {known} entries, but the embedding of the model only {model}");
        Ok(Self { network, tokenizer, from, before })
    }

    /// What its examples depend on.
    pub(in crate::stages) fn base(&self) -> Base {
        Base::of(&self.network, &self.tokenizer, self.began_elsewhere())
    }

    /// Whether the model, or one that it continues, came from elsewhere.
    fn began_elsewhere(&self) -> bool {
        self.before.as_ref().is_some_and(|before| before.from_checkpoint)
    }

    /// The objectives that the model has been trained for.
    pub(in crate::stages) fn objectives(&self) -> Vec<spec::Objective> {
        self.before.as_ref().map(|before| before.objectives.clone()).unwrap_or_default()
    }

    /// What the model is good for by what it was trained for before; not for what it was finetuned to, which a stage
    /// after that may undo.
    pub(in crate::stages) fn trained_for(&self, max_length: usize) -> TrainedFor {
        TrainedFor {
            objectives: self.objectives(),
            classification: None,
            instruction: None,
            outputs: None,
            threshold: None,
            max_length,
            from_checkpoint: self.began_elsewhere(),
        }
    }

    /// Writes the tokenizer beside the model.
    pub(in crate::stages) fn write_tokenizer(&self, job: &Job<'_>) -> Result<()> {
        match self.from.as_ref().filter(|from| from.has_tokenizer()) {
            Some(from) => from.copy_tokenizer(job.out),
            None => copy_tokenizer(&TOKENS.needed(job)?.path, job.out),
        }
    }

    /// Writes what the model that it began with says of how it writes; `ends` are tokens that end what it has learned now.
    pub(in crate::stages) fn write_settings(&self, job: &Job<'_>, ends: &[u32]) -> Result<()> {
        self.from.as_ref().map_or(Ok(()), |from| copy_settings(&from.model, job.out, ends))
    }
}

/// The model in a directory, LoRA merged; with a new `adapter` and otherwise frozen where there is one.
fn existing(
    model: &Path,
    adapter: Option<&spec::Adapter>,
    labels: Option<&[String]>,
    seed: u64,
    device: &OpenDevice,
) -> Result<Network> {
    let frozen = adapter.map(spec::Adapter::weights);
    let mut network = Network::load_to_train(model, frozen, labels, &device.device)?;
    if let Some(adapter) = adapter {
        network.adapt(adapter, seed)?;
    }
    Ok(network)
}

/// Trains on these devices, and writes the model and the curve.
pub(in crate::stages) fn train(
    job: &Job<'_>,
    devices: &OpenDevices,
    network: Network,
    given: &TrainingFeed,
    spec: &spec::Train,
    candidates: Option<Candidates>,
    evaluation: Option<Evaluation<'_>>,
) -> Result<Computed> {
    let feed = &*given.feed;
    if let Some(warm_up) = spec.warmup_steps.filter(|warm_up| *warm_up > feed.steps()) {
        let message = format!("the warm-up of {warm_up} steps is longer than the training, {} steps", feed.steps());
        bail!(Hinted::with(message, "`warmup_ratio: 0.1` is a tenth of the steps, however many they are"));
    }
    // Before anything changes the files that they come out of; a training doesn't fail for them.
    let examples = given.samples().unwrap_or_else(|error| {
        job.report(Event::Note(&format!("no examples are recorded: {error:#}")));
        Vec::new()
    });
    job.has_read()?;
    let mut settings = TrainSettings::new(spec, feed.steps(), candidates)?;
    settings.loss.focal_gamma = given.focal_gamma as f32;
    settings.loss.answers = given.answers;
    if spec.micro_batch == MicroBatch::Auto && feed.steps() > 0 {
        let devices = devices.devices();
        settings.max_micro_batch_tokens = estimate::max_micro_batch_tokens(&network, spec, &feed.step(0)?, &devices);
    }
    let mut trainer = Trainer::new(network, settings);
    trainer.share_with(devices.devices().split_off(1));
    let is_mixed = !feed.losses().is_empty();
    let beside = FROM.stage.artifact(job).filter(|_| trainer.network.is_adapted());
    let keeps_best = evaluation.as_ref().is_some_and(|evaluation| evaluation.keep_best.is_some());
    let is_beside = beside.map(|from| trainer.network.is_stored_in(&from.path)).transpose()?.unwrap_or(false);
    let room = Room::new(job, &trainer, keeps_best, is_beside);
    room.tell(job);
    resume(job, &mut trainer, is_mixed)?;
    let every = Cadence::new(spec.checkpoint_every);
    let length = job.node.trunk.as_ref().map(|trunk| trunk.length);
    let checkpoints = Checkpoints { every, state: job.state.clone(), last: job.trunk.clone().zip(length) };
    let measured_every = evaluation.as_ref().map_or(1, |evaluation| evaluation.every);
    let until = job.until.map(|part| Rung { part }.step(feed.steps(), measured_every));
    let on_gpu = !devices.first.is_cpu();
    let progress = (trainer.steps_done(), feed.steps());
    let (outcome, kernels) = first_step::told((job.reporter, job.name), progress, on_gpu, |first| {
        let open = &devices.first;
        let mut watcher = Watcher { job, until, is_mixed, open, first: Some(first), kernels: None };
        let outcome = trainer.run(feed, evaluation, Some(&checkpoints), &mut watcher);
        outcome.map(|outcome| (outcome, watcher.kernels))
    })?;
    if outcome.paused {
        let (step, steps) = (outcome.steps, feed.steps());
        let place = match until {
            Some(until) if step >= until => format!("at its rung, step {step} of {steps}"),
            _ => format!("stopped after step {step} of {steps}"),
        };
        let metrics = recorded(&outcome, kernels, &trainer, spec.precision);
        let measured = serde_json::to_value(measured(&trainer, feed.steps()))?;
        bail!(Paused { place, metrics, measured: Some(measured) });
    }
    job.finish(room.result, &|| {
        match beside {
            Some(from) => trainer.network.save_beside(&from.path, job.out)?,
            None => trainer.network.save(job.out)?,
        }
        trainer.curve().write(&job.out.join(Curve::FILE))
    })?;
    let mut recorded = recorded(&outcome, kernels, &trainer, spec.precision);
    if outcome.steps < feed.steps() {
        metrics::PLANNED_STEPS.put(&mut recorded, feed.steps());
    }
    Ok(Computed { metrics: recorded, throughput: trainer.throughput().clone(), examples })
}

/// What a training has measured that isn't at its end.
fn measured(trainer: &Trainer, steps: usize) -> Measured {
    let finite = |metrics: &train::Metrics| {
        metrics.iter().filter(|(_, value)| value.is_finite()).map(|(name, value)| (name.clone(), *value)).collect()
    };
    let evaluations = trainer.curve().evaluations().map(|(step, metrics)| (step, finite(metrics))).collect();
    Measured { step: trainer.steps_done(), steps, ended: false, evaluations }
}

/// Takes up the training where it was stopped, or where a shorter one ended; from the further of the two.
fn resume(job: &Job<'_>, trainer: &mut Trainer, is_mixed: bool) -> Result<()> {
    let own = ("the last checkpoint", &job.state);
    let shorter = job.trunk.as_ref().map(|trunk| ("where a shorter training ended", trunk));
    let mut states: Vec<_> = [own].into_iter().chain(shorter).collect();
    states.sort_by_key(|(_, state)| Reverse(reached(state).map(|reached| reached.step)));
    for (what, state) in states {
        match trainer.load_state(state) {
            Ok(true) => {
                job.report(Event::Note(&format!("resumes from {what}, after step {}", trainer.steps_done())));
                job.report(Event::Metrics(&so_far(trainer.curve(), is_mixed, trainer.throughput(), unix_time())));
                return Ok(());
            }
            Ok(false) => {}
            Err(error) => {
                job.report(Event::Note(&format!("can't resume from {what}, so that is thrown away: {error:#}")));
                state.clear()?;
            }
        }
    }
    Ok(())
}

/// What an artifact's record says of a training.
fn recorded(outcome: &Outcome, kernels: Option<Kernels>, trainer: &Trainer, precision: Precision) -> Metrics {
    let mut recorded = Metrics::new();
    metrics::LOSS.put(&mut recorded, outcome.loss);
    recorded.extend(outcome.losses.iter().map(|(name, loss)| (part_of_loss(name), json!(loss))));
    metrics::STEPS.put(&mut recorded, outcome.steps);
    metrics::PARAMETERS.put(&mut recorded, outcome.parameters);
    if outcome.learned < outcome.parameters {
        metrics::LEARNED_PARAMETERS.put(&mut recorded, outcome.learned);
    }
    record_speed(&mut recorded, outcome, trainer, precision);
    if let Some(Kernels { compiled, tuned }) = kernels {
        metrics::KERNELS_COMPILED.put(&mut recorded, compiled);
        metrics::KERNELS_TUNED.put(&mut recorded, tuned);
    }
    if let Some(bytes) = outcome.peak_memory_bytes {
        metrics::PEAK_MEMORY_BYTES.put(&mut recorded, bytes);
    }
    if let Some((step, measured)) = &outcome.measured {
        metrics::KEPT_STEP.put(&mut recorded, step);
        recorded.extend(measured.iter().map(|(name, value)| (format!("dev_{name}"), json!(value))));
    }
    recorded
}

/// How fast training was, beside the most that its devices can do, and what it waited for.
fn record_speed(recorded: &mut Metrics, outcome: &Outcome, trainer: &Trainer, precision: Precision) {
    let devices = trainer.devices();
    let peak = device::peak_together(&devices, precision);
    if devices.len() > 1 {
        metrics::DEVICES.put(recorded, devices.len());
    }
    metrics::TOKENS_PER_SECOND.put(recorded, outcome.tokens_per_second);
    metrics::FLOPS_PER_SECOND.put(recorded, outcome.flops_per_second);
    metrics::PEAK_FLOPS_PER_SECOND.put(recorded, peak);
    metrics::MFU.put(recorded, peak.map(|peak| outcome.flops_per_second / peak));
    metrics::DATA_WAIT_SECONDS.put(recorded, outcome.waited);
    if let Some(seconds) = outcome.first_step {
        metrics::FIRST_STEP_SECONDS.put(recorded, seconds);
    }
    if let Some(tokens) = outcome.micro_batch {
        metrics::MICRO_BATCH_TOKENS.put(recorded, tokens);
    }
    if let Some(bytes) = device::held(&devices) {
        metrics::DEVICE_MEMORY_BYTES.put(recorded, bytes);
    }
}

/// Passes the loop's progress on, and what is wanted of it back.
struct Watcher<'a> {
    job: &'a Job<'a>,
    /// The step to pause at.
    until: Option<usize>,
    /// Whether steps have losses of several objectives.
    is_mixed: bool,
    /// What computes, or the first of several.
    open: &'a OpenDevice,
    /// Dropped when the first step is over.
    first: Option<Sender<()>>,
    /// How it came by its kernels.
    kernels: Option<Kernels>,
}

impl Observer for Watcher<'_> {
    fn progressed(&mut self, progress: &Progress) {
        let Progress { step, steps, loss, parts, tokens_per_second, remaining, .. } = progress;
        let parts: Vec<_> = parts.iter().map(|(name, loss)| format!("{name} {loss:.4}")).collect();
        let parts = if parts.is_empty() { String::new() } else { format!(" ({})", parts.join(", ")) };
        let note = format!("loss {loss:.4}{parts}  {tokens_per_second:.0} tokens/s");
        let (done, total) = (*step as u64, *steps as u64);
        self.job.report(Event::Progress { done, total, note: &note, remaining: Some(*remaining) });
        let values = vec![(metrics::TOKENS_PER_SECOND.name.to_owned(), *tokens_per_second)];
        self.job.report(Event::Metrics(&[StepMetrics { step: *step, at: unix_time(), values }]));
    }

    fn began(&mut self, seconds: f64) {
        self.first = None;
        if !self.open.is_cpu() {
            self.kernels = made_kernels(self.open.keeps_kernels);
            let made = match self.kernels {
                Some(Kernels { compiled: Some(compiled), tuned }) => {
                    format!("{compiled} kernels had to be compiled by then, and {tuned} choices among them timed")
                }
                Some(Kernels { compiled: None, tuned }) => {
                    format!("the driver has compiled kernels by then, and {tuned} choices among them had to be timed")
                }
                None => "kernels were compiled and tuned in it".to_owned(),
            };
            self.job.report(Event::Note(&format!("the first step took {seconds:.1} s; {made}")));
        }
    }

    fn entered(&mut self, entries: &[(CurveEntry, f64)]) {
        let metrics: Vec<_> = entries.iter().map(|(entry, at)| of_entry(entry, self.is_mixed, *at)).collect();
        self.job.report(Event::Metrics(&metrics));
    }

    fn noted(&mut self, text: &str) {
        self.job.report(Event::Note(text));
    }

    fn evaluated(&mut self, step: usize, metrics: &train::Metrics, best: bool) {
        let values: Vec<_> = metrics.iter().map(|(name, value)| format!("dev {name} {value:.4}")).collect();
        let mark = if best { " (kept)" } else { "" };
        self.job.report(Event::Note(&format!("step {step}: {}{mark}", values.join("  "))));
    }

    fn pauses(&mut self, step: usize) -> bool {
        self.job.is_stopped() || self.until.is_some_and(|until| step >= until)
    }
}
