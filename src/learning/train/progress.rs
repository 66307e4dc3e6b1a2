//! What the training loop reports: losses read from the device, progress, throughput, and evaluations on the dev rows.

use std::{
    collections::{BTreeMap, VecDeque},
    time::Duration,
};

use anyhow::{Result, anyhow, bail};
use burn::tensor::Tensor;

use super::{
    clock::Meter,
    curve::{CurveEntry, Point, means},
    evaluation::Evaluation,
    observer::{Observer, Progress},
    pending::Pending,
    trainer::{Best, Trainer, WARMUP},
};
use crate::{
    engine::store::{ThroughputWindow, unix_time},
    network::device,
    support::Hinted,
};

impl Trainer {
    /// Reads losses and gradient norms from the device, and enters them into the curve.
    ///
    /// # Errors
    /// Those of the device, and a loss or gradient that isn't finite.
    pub(super) fn read(&mut self, pending: &mut VecDeque<Pending>, observer: &mut dyn Observer) -> Result<()> {
        if pending.is_empty() {
            return Ok(());
        }
        let values = pending.iter().flat_map(|step| [step.loss.clone(), step.grad_norm.clone()]).collect();
        let values: Vec<f32> =
            Tensor::cat(values, 0).try_into_vec_as().map_err(|error| unreadable(&format!("{error:?}")))?;
        let mut entries = Vec::new();
        let mut diverged = None;
        let mut numbers = values.into_iter();
        let mut next = || numbers.next().unwrap_or(f32::NAN);
        for Pending { step, objective, lr, at, parts, .. } in pending.drain(..) {
            let loss = next();
            let parts: BTreeMap<String, f32> = parts.iter().map(|name| (name.clone(), next())).collect();
            let grad_norm = next();
            if !loss.is_finite() || !grad_norm.is_finite() {
                let what = if loss.is_finite() { "gradient" } else { "loss" };
                let what = format!("the {what} is not finite at step {step} ({objective}, lr {lr:.2e})");
                diverged = Some(self.diverged(step, what, false));
                break;
            }
            entries.push((CurveEntry::Train(Point { step, objective, loss, lr, grad_norm, parts }), at));
        }
        self.enter(&entries, observer);
        diverged.map_or(Ok(()), |diverged| bail!(diverged))
    }

    fn enter(&mut self, entries: &[(CurveEntry, f64)], observer: &mut dyn Observer) {
        self.curve.entries.extend(entries.iter().map(|(entry, _)| entry.clone()));
        observer.entered(entries);
    }

    /// Reports progress since the last report.
    pub(super) fn report(&mut self, first: usize, window: &Meter, total: &Meter, observer: &mut dyn Observer) {
        let window =
            ThroughputWindow { step: self.step, at: unix_time(), tokens: window.tokens, seconds: window.seconds() };
        self.throughput.add(window);
        let every = self.settings.log_every.max(1);
        let since = if self.step.is_multiple_of(every) { every } else { self.step % every };
        let recent: Vec<&Point> = self.curve.points().rev().take(since).collect();
        let Some(last) = recent.first() else { return };
        let sum: f64 = recent.iter().map(|point| f64::from(point.loss)).sum();
        let parts = if self.losses.is_empty() { BTreeMap::new() } else { means(recent.iter().copied()) };
        let done = self.step - first;
        let counted = if done > WARMUP { done - WARMUP } else { done };
        let left = (self.settings.schedule.steps - self.step) as f64;
        observer.progressed(&Progress {
            step: self.step,
            steps: self.settings.schedule.steps,
            objective: last.objective.clone(),
            loss: sum / recent.len() as f64,
            parts,
            lr: last.lr,
            grad_norm: f64::from(last.grad_norm),
            tokens_per_second: window.tokens_per_second(),
            remaining: Duration::from_secs_f64(left * total.seconds() / counted as f64),
        });
    }

    /// Evaluates on the dev rows; returns whether to stop early.
    pub(super) fn measure(&mut self, evaluation: &mut Evaluation, observer: &mut dyn Observer) -> Result<bool> {
        let own = self.average.as_ref().map(|average| average.replace(self.network.parameters_mut()));
        let metrics = (evaluation.measure)(&self.network)?;
        let entry = CurveEntry::Evaluate { step: self.step, metrics: metrics.clone() };
        self.enter(&[(entry, unix_time())], observer);
        let best = match &evaluation.keep_best {
            Some(metric) => self.best_metric.note(metric, &metrics)?,
            None => true,
        };
        if best {
            let parameters = evaluation.keep_best.is_some().then(|| self.network.parameters().clone());
            self.best = Some(Best { step: self.step, metrics: metrics.clone(), parameters });
        }
        if let Some(own) = own {
            *self.network.parameters_mut() = own;
        }
        observer.evaluated(self.step, &metrics, best);
        match &evaluation.early_stopping {
            Some(rule) => {
                self.stopping_metric.note(&rule.metric, &metrics)?;
                Ok(self.stopping_metric.since >= rule.patience)
            }
            None => Ok(false),
        }
    }
}

/// Why a step's loss can't be read, of which the memory may have been the reason long before.
fn unreadable(error: &str) -> anyhow::Error {
    let lacking = device::lack_of_memory(error).map(str::to_owned).or_else(device::kept_lack_of_memory);
    match lacking {
        Some(message) => Hinted::with(
            format!("a step doesn't fit into the device's memory: {message}"),
            "try a smaller `batch` or `micro_batch`, a shorter `max_length` or a smaller model",
        )
        .into(),
        None => anyhow!("can't read the loss from the device: {error}"),
    }
}
