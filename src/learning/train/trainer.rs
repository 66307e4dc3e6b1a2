//! The training loop: steps from a feed, their gradients, the optimizer's update, reports and evaluations along the way.

use std::{
    collections::{BTreeMap, VecDeque},
    path::PathBuf,
    sync::{
        Arc,
        mpsc::{Receiver, sync_channel},
    },
    thread,
    time::Instant,
};

use anyhow::{Context, Result, ensure};
use burn::tensor::Device;

use super::{
    accumulated::Losses,
    arithmetic::Arithmetic,
    average::Average,
    checkpoints::Checkpoints,
    clock::{Meter, Timer},
    curve::Curve,
    evaluation::{Evaluation, MetricTracker, Metrics},
    micro_batches::{Chunk, Computed, MicroBatching},
    observer::Observer,
    optimizer::Optimizer,
    pending::Pending,
    reduction::Reduction,
    replicas::Replica,
    settings::{Outcome, TrainSettings},
};
use crate::{
    engine::store::{Throughput, unix_time},
    network::{
        batch::{Feed, Step},
        kernels::watch,
        model::{Counts, Loss, Network, Parameters},
    },
};

/// Steps that are prepared ahead on another thread.
const PREPARED: usize = 2;

/// Steps that don't count for throughput: caches are still warming up.
pub(super) const WARMUP: usize = 5;

/// A training in progress.
pub struct Trainer {
    /// What is trained.
    pub network: Network,
    pub(super) settings: TrainSettings,
    pub(super) optimizer: Optimizer,
    pub(super) average: Option<Average>,
    pub(super) micro_batching: MicroBatching,
    /// Further devices that steps are shared with, and while training runs the replicas on them.
    shared_with: Vec<Device>,
    replicas: Vec<Replica>,
    /// The names of the losses that a step's loss is the sum of, by its objective; empty where all steps have one and the
    /// same objective.
    pub(super) losses: BTreeMap<String, Arc<[String]>>,
    /// What the user should know of the state that training resumes from.
    pub(super) remark: Option<String>,
    /// Steps done.
    pub(super) step: usize,
    pub(super) curve: Curve,
    pub(super) throughput: Throughput,
    pub(super) best: Option<Best>,
    /// Of the metric by which the best weights are kept.
    pub(super) best_metric: MetricTracker,
    /// Of the metric by which training stops early.
    pub(super) stopping_metric: MetricTracker,
    /// The last checkpoint: its step, and where it lies.
    pub(super) last_checkpoint: Option<(usize, PathBuf)>,
}

/// The evaluation that the outcome reports: the best one, or the last where the last weights are kept.
pub(super) struct Best {
    pub(super) step: usize,
    pub(super) metrics: Metrics,
    /// The weights to restore at the end, where the best are kept.
    pub(super) parameters: Option<Parameters>,
}

impl Trainer {
    /// A training before its first step.
    pub fn new(mut network: Network, settings: TrainSettings) -> Self {
        let optimizer = Optimizer::new(Arc::clone(&settings.optimizer), settings.max_grad_norm);
        let average = settings.average.map(Average::new);
        let micro_batching = MicroBatching::new(&settings);
        network.compute_with(settings.precision);
        network.recompute_layers(settings.gradient_checkpointing);
        Self {
            network,
            settings,
            optimizer,
            average,
            micro_batching,
            shared_with: Vec::new(),
            replicas: Vec::new(),
            losses: BTreeMap::new(),
            remark: None,
            step: 0,
            curve: Curve::default(),
            throughput: Throughput::default(),
            best: None,
            best_metric: MetricTracker::default(),
            stopping_metric: MetricTracker::default(),
            last_checkpoint: None,
        }
    }

    /// Shares each step with these devices too, beside the network's own. One that is named again takes another share.
    pub fn share_with(&mut self, devices: Vec<Device>) {
        self.shared_with = devices;
    }

    /// Where training takes place, the network's own device first.
    pub fn devices(&self) -> Vec<Device> {
        [self.network.parameters().device()].into_iter().chain(&self.shared_with).cloned().collect()
    }

    /// Copies the network and its optimizer to the other devices.
    fn replicate(&mut self, observer: &mut dyn Observer) -> Result<()> {
        if self.shared_with.is_empty() {
            return Ok(());
        }
        let replica = |device: &Device| Replica::of(&self.network, &self.optimizer, device);
        self.replicas = self.shared_with.iter().map(replica).collect::<Result<_>>()?;
        self.micro_batching.reduction = Some(Reduction::new(self.devices(), &mut |text| observer.noted(text)));
        Ok(())
    }

    /// The losses and evaluations so far.
    pub fn curve(&self) -> &Curve {
        &self.curve
    }

    /// The throughput so far, an interval per report.
    pub fn throughput(&self) -> &Throughput {
        &self.throughput
    }

    /// Steps taken so far.
    pub fn steps_done(&self) -> usize {
        self.step
    }

    /// Trains from the current step to the last one, or until early stopping, or until the observer pauses it.
    ///
    /// # Errors
    /// A loss that isn't finite, batches that don't fit the network, and the errors of feed, measurement and files.
    pub fn run(
        &mut self,
        feed: &dyn Feed,
        evaluation: Option<Evaluation>,
        checkpoints: Option<&Checkpoints>,
        observer: &mut dyn Observer,
    ) -> Result<Outcome> {
        let (first, last) = (self.step, self.settings.schedule.steps);
        ensure!(feed.steps() >= last, "the feed has {} steps, but the schedule has {last}", feed.steps());
        self.replicate(observer)?;
        let names = |parts: Option<[String; 2]>| parts.into_iter().flatten().collect();
        self.losses = feed.losses().into_iter().map(|step| (step.objective, names(step.parts))).collect();
        if let Some(remark) = self.remark.take() {
            observer.noted(&remark);
        }
        let (sender, receiver) = sync_channel(PREPARED);
        thread::scope(|scope| {
            scope.spawn(move || {
                // Ends early once the receiver is dropped.
                (first..last).map(|step| feed.step(step)).all(|step| sender.send(step).is_ok());
            });
            self.take_steps(receiver, evaluation, checkpoints, observer)
        })
    }

    /// Takes the prepared steps one by one.
    fn take_steps(
        &mut self,
        prepared: Receiver<Result<Step>>,
        mut evaluation: Option<Evaluation>,
        checkpoints: Option<&Checkpoints>,
        observer: &mut dyn Observer,
    ) -> Result<Outcome> {
        let (first, steps) = (self.step, self.settings.schedule.steps);
        let arithmetic = Arithmetic::of(&self.network);
        let mut pending = VecDeque::new();
        let (mut total, mut window, mut timer) = (Meter::start(), Meter::start(), Timer::start());
        let (mut stopped, mut first_step, began) = (false, None, Instant::now());
        // A resumed training may have reached its pause already.
        let mut paused = first > 0 && first < steps && observer.pauses(first);
        while self.step < steps && !stopped && !paused {
            if self.step - first == WARMUP {
                total = Meter::start();
            }
            let asked = Instant::now();
            let step = prepared.recv().context("the feed ended before the last step")?;
            total.waited += asked.elapsed();
            let step = step.with_context(|| format!("step {}", self.step + 1))?;
            let (tokens, taken) = self.optimize(&step, observer)?;
            pending.push_back(taken);
            total.tokens += tokens;
            total.flops += arithmetic.step(&step);
            window.tokens += tokens;
            self.step += 1;
            if self.step - first == 1 {
                self.read(&mut pending, observer)?;
                let seconds = began.elapsed().as_secs_f64();
                first_step = Some(seconds);
                observer.began(seconds);
            }

            let last = self.step == steps;
            let every = |every: usize| self.step.is_multiple_of(every.max(1));
            paused = !last && observer.pauses(self.step);
            let measuring = evaluation.as_ref().is_some_and(|evaluation| every(evaluation.every));
            let storing = checkpoints.filter(|checkpoints| timer.is_due(checkpoints.every, self.step) || paused);
            let storing = storing.filter(|_| !last);
            let reporting = last || every(self.settings.log_every);
            // Reading waits for the device; between these steps nothing does. Where counting begins it has to be idle.
            if last || measuring || storing.is_some() || reporting || self.step - first == WARMUP {
                self.read(&mut pending, observer)?;
            }
            if reporting {
                self.report(first, &window, &total, observer);
                window = Meter::start();
            }
            let pause = Instant::now();
            stopped = match &mut evaluation {
                Some(evaluation) if measuring => self.measure(evaluation, observer)?,
                _ => false,
            };
            // A training that has stopped must not be resumed, so its state isn't saved.
            if let Some(checkpoints) = storing.filter(|_| !stopped) {
                let began = Instant::now();
                self.check_finite()?;
                match self.save_state(&checkpoints.state) {
                    // A disk that is full for a while costs a checkpoint, but a pause needs it.
                    Err(error) if paused => return Err(error.context("the state to resume from can't be saved")),
                    Err(error) => observer.noted(&format!("no checkpoint could be saved: {error:#}")),
                    Ok(()) => self.last_checkpoint = Some((self.step, checkpoints.state.dir().to_owned())),
                }
                timer.stored(began);
            }
            total.paused += pause.elapsed();
            window.paused += pause.elapsed();
        }
        paused &= !stopped;
        if !stopped && !paused {
            let pause = Instant::now();
            self.end(evaluation, checkpoints, observer)?;
            total.paused += pause.elapsed();
        }
        self.finish(&total, first_step, paused)
    }

    /// After the last step: saves the state for longer trainings to resume from, and evaluates once more unless this step
    /// was evaluated anyway. In this order, since a longer training doesn't evaluate here.
    fn end(
        &mut self,
        evaluation: Option<Evaluation>,
        checkpoints: Option<&Checkpoints>,
        observer: &mut dyn Observer,
    ) -> Result<()> {
        if let Some((state, length)) = checkpoints.and_then(|checkpoints| checkpoints.last.as_ref())
            && self.network.parameters().are_finite()?
            && let Err(error) = self.save_final_state(state, *length)
        {
            observer.noted(&format!("the final state can't be saved for longer trainings: {error:#}"));
        }
        match evaluation {
            Some(mut evaluation) if !self.step.is_multiple_of(evaluation.every.max(1)) => {
                self.measure(&mut evaluation, observer).map(|_| ())
            }
            _ => Ok(()),
        }
    }

    /// Takes one optimizer step; returns the number of its tokens, and its loss on the device.
    fn optimize(&mut self, step: &Step, observer: &mut dyn Observer) -> Result<(usize, Pending)> {
        let watched = watch::reaches(self.step + 1);
        let note = &mut |text: &str| observer.noted(text);
        let replicas = self.replicas.iter().map(|replica| &replica.network);
        let networks: Vec<&Network> = [&self.network].into_iter().chain(replicas).collect();
        let settings = &self.settings.loss;
        let parts = self.losses.get(&step.objective).map_or_else(Arc::default, Arc::clone);
        let loss = |network: &Network, chunk: &Chunk<'_>| {
            let Loss { total, targets, pairs } =
                network.losses(&chunk.batch, &chunk.counts, step.pair_weight, settings)?;
            let told = if parts.is_empty() { Vec::new() } else { vec![targets, pairs] };
            let zero = || total.clone().inner().zeros_like();
            let parts = told.into_iter().map(|part| part.unwrap_or_else(zero)).collect();
            Ok(Losses { total, parts })
        };
        let Computed { gradients, loss } = self.micro_batching.run(&networks, step, &loss, note)?;
        let lr = self.settings.schedule.rate(self.step);
        let mut gradients = gradients.into_iter();
        let own = gradients.next().context("no gradients")?;
        let about = format_args!("{}, lr {lr:.2e}", step.objective);
        if watched {
            self.look_at_gradients(about, &loss, &own)?;
        }
        let grad_norm = self.optimizer.step(self.network.parameters_mut(), own, lr)?;
        if watched {
            self.look_at_weights(about)?;
        }
        for (replica, gradients) in self.replicas.iter_mut().zip(gradients) {
            replica.step(gradients, lr)?;
        }
        if let Some(average) = &mut self.average {
            average.note(self.network.parameters());
        }
        let tokens = step.batches.iter().map(|batch| Counts::of(batch).tokens).sum();
        let objective = step.objective.clone();
        let taken = Pending { step: self.step + 1, objective, loss, parts, lr, grad_norm, at: unix_time() };
        Ok((tokens, taken))
    }

    fn finish(&mut self, total: &Meter, first_step: Option<f64>, paused: bool) -> Result<Outcome> {
        let (tokens_per_second, flops_per_second) = (total.rate(), total.per_second(total.flops));
        self.replicas.clear();
        if let Some(average) = self.average.as_ref().filter(|_| !paused) {
            average.replace(self.network.parameters_mut());
        }
        let measured = self.best.take().map(|best| {
            if let Some(parameters) = best.parameters.filter(|_| !paused) {
                *self.network.parameters_mut() = parameters;
            }
            (best.step, best.metrics)
        });
        Ok(Outcome {
            loss: self.curve.final_loss().context("there was nothing to train")?,
            losses: if self.losses.is_empty() { BTreeMap::new() } else { self.curve.final_losses() },
            steps: self.step,
            parameters: self.network.parameters().count(),
            learned: self.network.parameters().trainable(),
            tokens_per_second,
            flops_per_second,
            waited: total.waited.as_secs_f64(),
            first_step,
            micro_batch: self.micro_batching.max_tokens,
            peak_memory_bytes: peak_memory(),
            measured,
            paused,
        })
    }
}

/// The process's peak resident memory, which Linux reports in `/proc`.
fn peak_memory() -> Option<u64> {
    let status = fs_err::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    let kilobytes: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kilobytes * 1024)
}
