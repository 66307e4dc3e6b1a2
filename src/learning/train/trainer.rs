//! The loop: steps from a feed, their gradients, the optimizer, reports and measurements along the way.

use std::{
    collections::VecDeque,
    path::PathBuf,
    sync::{
        Arc,
        mpsc::{Receiver, sync_channel},
    },
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, anyhow, bail, ensure};
use burn::tensor::{Device, Tensor};

use super::{
    arithmetic::Arithmetic,
    checkpoints::Checkpoints,
    clock::{Meter, Timer},
    curve::{Curve, Entry, Point},
    evaluation::{Evaluation, Metrics, Record},
    micro_batches::{Chunk, Computed, MicroBatching},
    observer::{Observer, Progress},
    optimizer::Optimizer,
    reduction::Reduction,
    replicas::Replica,
    settings::{Outcome, Settings},
};
use crate::{
    engine::store::{Pace, Stretch, unix_time},
    network::{
        batch::{Feed, Step},
        model::{Counts, Network, Parameters},
    },
    support::Hinted,
};

/// Steps that are prepared ahead on another thread.
const PREPARED: usize = 2;

/// Steps that don't count for throughput: they still warm caches up.
const WARMING: usize = 5;

/// A training in progress.
pub struct Trainer {
    /// What is trained.
    pub network: Network,
    pub(super) settings: Settings,
    pub(super) optimizer: Optimizer,
    pub(super) micro_batching: MicroBatching,
    /// Further devices that steps are shared with, and while training runs the replicas on them.
    shared_with: Vec<Device>,
    replicas: Vec<Replica>,
    /// Steps done.
    pub(super) step: usize,
    pub(super) curve: Curve,
    pub(super) pace: Pace,
    pub(super) best: Option<Best>,
    pub(super) kept: Record,
    pub(super) stopping: Record,
    /// The last state that was stored: its step, and where.
    pub(super) stored: Option<(usize, PathBuf)>,
}

/// The measurement that counts in the end.
pub(super) struct Best {
    pub(super) step: usize,
    pub(super) metrics: Metrics,
    /// The weights to go back to, where the best are kept and not the last.
    pub(super) parameters: Option<Parameters>,
}

/// A step whose loss hasn't been read from the device yet.
struct Pending {
    step: usize,
    objective: String,
    loss: Tensor<1>,
    lr: f64,
    grad_norm: Tensor<1>,
    /// When it was done, in seconds since 1970; on devices that work by themselves, when they were told all of it.
    at: f64,
}

impl Trainer {
    /// Before the first step.
    pub fn new(mut network: Network, settings: Settings) -> Self {
        let optimizer = Optimizer::new(Arc::clone(&settings.optimizer), settings.max_grad_norm);
        let micro_batching = MicroBatching::new(&settings);
        network.compute_with(settings.precision);
        network.recompute_layers(settings.gradient_checkpointing);
        Self {
            network,
            settings,
            optimizer,
            micro_batching,
            shared_with: Vec::new(),
            replicas: Vec::new(),
            step: 0,
            curve: Curve::default(),
            pace: Pace::default(),
            best: None,
            kept: Record::default(),
            stopping: Record::default(),
            stored: None,
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

    /// Makes the replicas, as the network and its optimizer stand now.
    fn replicate(&mut self, observer: &mut dyn Observer) -> Result<()> {
        if self.shared_with.is_empty() {
            return Ok(());
        }
        let replica = |device: &Device| Replica::of(&self.network, &self.optimizer, device);
        self.replicas = self.shared_with.iter().map(replica).collect::<Result<_>>()?;
        self.micro_batching.reduction = Some(Reduction::new(self.devices(), &mut |text| observer.noted(text)));
        Ok(())
    }

    /// What happened so far.
    pub fn curve(&self) -> &Curve {
        &self.curve
    }

    /// How fast it was so far, between the lines of its log.
    pub fn pace(&self) -> &Pace {
        &self.pace
    }

    /// Where it stands.
    pub fn steps_done(&self) -> usize {
        self.step
    }

    /// Trains from where it stands to the last step, or until it gets no better, or until the observer pauses it.
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
        ensure!(feed.steps() >= last, "there are {} steps to learn from, but the schedule has {last}", feed.steps());
        self.replicate(observer)?;
        let (sender, receiver) = sync_channel(PREPARED);
        thread::scope(|scope| {
            scope.spawn(move || {
                // Ends early when nobody listens any more.
                (first..last).map(|step| feed.step(step)).all(|step| sender.send(step).is_ok());
            });
            self.follow(receiver, evaluation, checkpoints, observer)
        })
    }

    fn follow(
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
        let mut stopped = false;
        // A state that is as far as it was to come needs no step.
        let mut paused = first > 0 && first < steps && observer.pauses(first);
        while self.step < steps && !stopped && !paused {
            if self.step - first == WARMING {
                total = Meter::start();
            }
            let asked = Instant::now();
            let step = prepared.recv().context("the feed ended before the last step")?;
            total.waited += asked.elapsed();
            let step = step.with_context(|| format!("step {}", self.step + 1))?;
            let (tokens, learned) = self.learn(&step, observer)?;
            pending.push_back(learned);
            total.tokens += tokens;
            total.flops += arithmetic.step(&step);
            window.tokens += tokens;
            self.step += 1;

            let last = self.step == steps;
            let every = |every: usize| self.step.is_multiple_of(every.max(1));
            paused = !last && observer.pauses(self.step);
            let measuring = evaluation.as_ref().is_some_and(|evaluation| every(evaluation.every));
            let storing = checkpoints.filter(|checkpoints| timer.is_due(checkpoints.every, self.step) || paused);
            let storing = storing.filter(|_| !last);
            let reporting = last || every(self.settings.log_every);
            // Reading waits for the device; between these steps nothing does. Where counting begins it has to be idle.
            if last || measuring || storing.is_some() || reporting || self.step - first == WARMING {
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
            // What has stopped must not go on, so its state isn't kept.
            if let Some(checkpoints) = storing.filter(|_| !stopped) {
                let began = Instant::now();
                self.check_finite()?;
                match self.save_state(&checkpoints.state) {
                    // A disk that is full for a while costs a checkpoint, but a pause needs it.
                    Err(error) if paused => return Err(error.context("the state to resume from can't be stored")),
                    Err(error) => observer.noted(&format!("no checkpoint could be stored: {error:#}")),
                    Ok(()) => self.stored = Some((self.step, checkpoints.state.dir().to_owned())),
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
        self.finish(&total, paused)
    }

    /// After the last step: leaves the state to longer trainings, and measures once more where it wasn't time anyway. In
    /// this order, since a longer training doesn't measure here.
    fn end(
        &mut self,
        evaluation: Option<Evaluation>,
        checkpoints: Option<&Checkpoints>,
        observer: &mut dyn Observer,
    ) -> Result<()> {
        if let Some((state, length)) = checkpoints.and_then(|checkpoints| checkpoints.last.as_ref())
            && self.network.parameters().are_finite()?
            && let Err(error) = self.leave_state(state, *length)
        {
            observer.noted(&format!("its state can't be kept for longer trainings: {error:#}"));
        }
        match evaluation {
            Some(mut evaluation) if !self.step.is_multiple_of(evaluation.every.max(1)) => {
                self.measure(&mut evaluation, observer).map(|_| ())
            }
            _ => Ok(()),
        }
    }

    /// One optimizer step; gives the number of its tokens.
    fn learn(&mut self, step: &Step, observer: &mut dyn Observer) -> Result<(usize, Pending)> {
        let note = &mut |text: &str| observer.noted(text);
        let replicas = self.replicas.iter().map(|replica| &replica.network);
        let networks: Vec<&Network> = [&self.network].into_iter().chain(replicas).collect();
        let settings = &self.settings.loss;
        let loss = |network: &Network, chunk: &Chunk<'_>| {
            network.loss(&chunk.batch, &chunk.counts, step.pair_weight, settings)
        };
        let Computed { gradients, loss } = self.micro_batching.run(&networks, step, &loss, note)?;
        let lr = self.settings.schedule.rate(self.step);
        let mut gradients = gradients.into_iter();
        let own = gradients.next().context("no gradients")?;
        let grad_norm = self.optimizer.step(self.network.parameters_mut(), own, lr)?;
        for (replica, gradients) in self.replicas.iter_mut().zip(gradients) {
            replica.step(gradients, lr)?;
        }
        let tokens = step.batches.iter().map(|batch| Counts::of(batch).tokens).sum();
        let objective = step.objective.clone();
        let learned = Pending { step: self.step + 1, objective, loss, lr, grad_norm, at: unix_time() };
        Ok((tokens, learned))
    }

    /// Brings losses over from the device, and looks at them.
    fn read(&mut self, pending: &mut VecDeque<Pending>, observer: &mut dyn Observer) -> Result<()> {
        if pending.is_empty() {
            return Ok(());
        }
        let numbers = pending.iter().flat_map(|step| [step.loss.clone(), step.grad_norm.clone()]).collect();
        let numbers: Vec<f32> = Tensor::cat(numbers, 0)
            .try_into_vec_as()
            .map_err(|error| anyhow!("can't read the loss from the device: {error:?}"))?;
        let mut entries = Vec::new();
        let mut diverged = None;
        for (Pending { step, objective, lr, at, .. }, numbers) in pending.drain(..).zip(numbers.chunks_exact(2)) {
            let (loss, grad_norm) = (numbers[0], numbers[1]);
            if !loss.is_finite() || !grad_norm.is_finite() {
                let what = if loss.is_finite() { "gradient" } else { "loss" };
                diverged = Some(format!("the {what} is not finite at step {step} ({objective}, lr {lr:.2e})"));
                break;
            }
            entries.push((Entry::Train(Point { step, objective, loss, lr, grad_norm }), at));
        }
        self.enter(&entries, observer);
        diverged.map_or(Ok(()), |what| bail!(self.diverged(&what)))
    }

    fn enter(&mut self, entries: &[(Entry, f64)], observer: &mut dyn Observer) {
        self.curve.entries.extend(entries.iter().map(|(entry, _)| entry.clone()));
        observer.entered(entries);
    }

    /// What to know and to try when numbers have left their range.
    fn diverged(&self, what: &str) -> Hinted {
        let kept = match &self.stored {
            Some((step, place)) => {
                format!("the last good checkpoint, after step {step}, is kept in {}", place.display())
            }
            None => "no checkpoint was stored before; checkpoint_every stores them more often".to_owned(),
        };
        let hint = "try a lower lr, a longer warm-up or a smaller max_grad_norm";
        Hinted::with(format!("{what}; {kept}"), hint)
    }

    /// Refuses weights that no state may hold, since training couldn't resume from them. The loss tells of the weights
    /// before the step; those after it may have overflowed already.
    fn check_finite(&self) -> Result<()> {
        if !self.network.parameters().are_finite()? {
            bail!(self.diverged(&format!("the weights are not finite after step {}", self.step)));
        }
        Ok(())
    }

    fn report(&mut self, first: usize, window: &Meter, total: &Meter, observer: &mut dyn Observer) {
        let stretch = Stretch { step: self.step, at: unix_time(), tokens: window.tokens, seconds: window.seconds() };
        self.pace.add(stretch);
        let every = self.settings.log_every.max(1);
        let since = if self.step.is_multiple_of(every) { every } else { self.step % every };
        let recent: Vec<f64> = self.curve.points().rev().take(since).map(|point| f64::from(point.loss)).collect();
        let Some(last) = self.curve.points().next_back() else { return };
        let done = self.step - first;
        let counted = if done > WARMING { done - WARMING } else { done };
        let left = (self.settings.schedule.steps - self.step) as f64;
        observer.progressed(&Progress {
            step: self.step,
            steps: self.settings.schedule.steps,
            objective: last.objective.clone(),
            loss: recent.iter().sum::<f64>() / recent.len() as f64,
            lr: last.lr,
            grad_norm: f64::from(last.grad_norm),
            tokens_per_second: stretch.tokens_per_second(),
            remaining: Duration::from_secs_f64(left * total.seconds() / counted as f64),
        });
    }

    /// Whether to stop.
    fn measure(&mut self, evaluation: &mut Evaluation, observer: &mut dyn Observer) -> Result<bool> {
        let metrics = (evaluation.measure)(&self.network)?;
        let entry = Entry::Evaluate { step: self.step, metrics: metrics.clone() };
        self.enter(&[(entry, unix_time())], observer);
        let best = match &evaluation.keep_best {
            Some(metric) => self.kept.note(metric, &metrics)?,
            None => true,
        };
        if best {
            let parameters = evaluation.keep_best.is_some().then(|| self.network.parameters().clone());
            self.best = Some(Best { step: self.step, metrics: metrics.clone(), parameters });
        }
        observer.evaluated(self.step, &metrics, best);
        match &evaluation.early_stopping {
            Some(rule) => {
                self.stopping.note(&rule.metric, &metrics)?;
                Ok(self.stopping.since >= rule.patience)
            }
            None => Ok(false),
        }
    }

    fn finish(&mut self, total: &Meter, paused: bool) -> Result<Outcome> {
        let (tokens_per_second, flops_per_second) = (total.rate(), total.per_second(total.flops));
        self.replicas.clear();
        let measured = self.best.take().map(|best| {
            if let Some(parameters) = best.parameters.filter(|_| !paused) {
                *self.network.parameters_mut() = parameters;
            }
            (best.step, best.metrics)
        });
        Ok(Outcome {
            loss: self.curve.final_loss().context("there was nothing to train")?,
            steps: self.step,
            parameters: self.network.parameters().count(),
            learned: self.network.parameters().learned(),
            tokens_per_second,
            flops_per_second,
            waited: total.waited.as_secs_f64(),
            micro_batch: self.micro_batching.max_tokens,
            peak_memory_bytes: peak_memory(),
            measured,
            paused,
        })
    }
}

/// Linux counts it; other systems don't tell this way.
fn peak_memory() -> Option<u64> {
    let status = fs_err::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    let kilobytes: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kilobytes * 1024)
}
