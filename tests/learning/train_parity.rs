//! Training goes the reference's way: losses, gradients and weights of a run step by step.

use crate::common::{need, parity};
use std::path::Path;

use anyhow::Result;
use burn::tensor::Device;
use parity::{Tensors, fixture, furthest};
use pipe::{
    learning::train::{Silent, TrainSettings, Trainer},
    network::{
        batch::{Batch, Feed, SlotRange, Step, Target},
        model::{Counts, LossSettings, Network},
    },
    spec,
};
use serde_json::json;

/// What stands in `batches.safetensors`; the axis before rows and tokens may be split into micro-batches.
struct Recorded {
    batches: Vec<Batch>,
    per_step: usize,
}

impl Recorded {
    fn bert(given: &Tensors) -> Self {
        let pairs = given.integers("next_sentence_label");
        let segments = given.integers("token_type_ids");
        let batches = Self::read(given, |labels, at, _| labels[at], |start, length, _| start + length);
        let finish = |(index, mut batch): (usize, Batch)| {
            let (rows, count) = (batch.rows, batch.tokens.len());
            batch.segments = segments[index * count..][..count].to_vec();
            batch.pairs = pairs[index * rows..][..rows].to_vec();
            batch
        };
        Self { batches: batches.into_iter().enumerate().map(finish).collect(), per_step: 1 }
    }

    fn gpt2(given: &Tensors) -> Self {
        let next = |labels: &[i64], at: usize, width: usize| match (at + 1) % width {
            0 => -100,
            _ => labels[at + 1],
        };
        let batches = Self::read(given, next, |_, _, place| place + 1);
        Self { batches, per_step: given.shape("input_ids")[1] }
    }

    fn read(
        given: &Tensors,
        label: impl Fn(&[i64], usize, usize) -> i64,
        span_ends: impl Fn(u32, u32, u32) -> u32,
    ) -> Vec<Batch> {
        let shape = given.shape("input_ids");
        let [.., rows, width] = shape[..] else { panic!("rows of tokens") };
        let count = rows * width;
        let (mask, labels) = (given.signed("attention_mask"), given.signed("labels"));
        let all = given.integers("input_ids");
        let batch = |index: usize| {
            let (mask, labels) = (&mask[index * count..][..count], &labels[index * count..][..count]);
            let lengths: Vec<u32> = mask.chunks(width).map(|row| row.iter().sum::<i64>() as u32).collect();
            let start = |place: usize| (place / width * width) as u32;
            let targets = (0..count).filter_map(|at| {
                let token = label(labels, at, width);
                (token >= 0).then_some(Target { at: at as u32, token: token as u32 })
            });
            Batch {
                rows,
                width,
                tokens: all[index * count..][..count].to_vec(),
                positions: (0..count).map(|place| (place % width) as u32).collect(),
                block_positions: vec![0; count],
                span_starts: (0..count).map(start).collect(),
                span_ends: (0..count)
                    .map(|place| span_ends(start(place), lengths[place / width], place as u32))
                    .collect(),
                dropout_keys: vec![0; count],
                examples: (0..rows)
                    .map(|row| SlotRange { start: (row * width) as u32, length: lengths[row] })
                    .collect(),
                targets: targets.collect(),
                ..Batch::default()
            }
        };
        (0..all.len() / count).map(batch).collect()
    }
}

impl Feed for Recorded {
    fn steps(&self) -> usize {
        self.batches.len() / self.per_step
    }

    fn step(&self, step: usize) -> Result<Step> {
        let batches = self.batches[step * self.per_step..][..self.per_step].to_vec();
        Ok(Step { batches, objective: "recorded".into(), pair_weight: 1.0 })
    }
}

/// The peak of a schedule that warms up and then falls in straight lines, and the step that it stands at.
fn peak(rates: &[f32]) -> (f32, usize) {
    let highest = rates.iter().copied().fold(0.0, f32::max);
    (highest, rates.iter().position(|&rate| rate == highest).unwrap_or(0))
}

/// The places of a tensor whose gradient is 0 but for rounding, which Adam blows up.
fn noise(name: &str, values: usize) -> std::ops::Range<usize> {
    match name {
        _ if name.ends_with("key.bias") => 0..values,
        _ if name.ends_with("c_attn.bias") => values / 3..2 * values / 3,
        _ => 0..0,
    }
}

/// Compares checkpoints, all but noise to within `tolerance`, and that to within `most`.
fn check_weights(network: &Network, expected: &Tensors, most: f32, tolerance: f32) {
    let stored = tempfile::tempdir().unwrap();
    network.save(stored.path()).unwrap();
    let found = Tensors::weights(stored.path());
    let mut worst = 0.0f32;
    for (name, _) in expected.all().iter() {
        let (mut found, mut expected) = (found.floats(name), expected.floats(name));
        let noise = noise(name, found.len());
        if !noise.is_empty() {
            assert!(furthest(&found[noise.clone()], &expected[noise.clone()]) < most, "{name}");
            found.drain(noise.clone());
            expected.drain(noise);
        }
        let difference = furthest(&found, &expected);
        worst = worst.max(difference);
        assert!(difference < tolerance, "{name} differs by {difference}");
    }
    eprintln!("tensors differ by {worst:e}");
}

fn check_run(directory: &Path, feed: &Recorded, normalization: &str, prefix: &str, last: &str) {
    let expected = Tensors::expected(directory);
    let network = Network::load(&directory.join("initial"), &Device::flex()).unwrap();
    let steps = feed.steps();
    let rates = expected.floats("lr");
    let (lr, warmup) = peak(&rates);
    let train = json!({
        "steps": steps, "lr": lr, "warmup_steps": warmup, "schedule": "linear", "dropout": 0.0, "weight_decay": 0.01,
        "beta1": 0.9, "beta2": 0.999, "epsilon": 1e-8, "max_grad_norm": 1.0, "log_every": 1,
        "loss_normalization": normalization,
    });
    let train: spec::Train = serde_json::from_value(train).unwrap();
    let mut trainer = Trainer::new(network, TrainSettings::new(&train, steps, None).unwrap());
    trainer.run(feed, None, None, &mut Silent).unwrap();

    let (losses, norms) = (expected.floats(&format!("{prefix}loss")), expected.floats(&format!("{prefix}grad_norm")));
    let points: Vec<_> = trainer.curve().points().collect();
    assert_eq!(points.len(), steps);
    let (mut worst_loss, mut worst_norm) = (0.0f32, 0.0f32);
    for (step, point) in points.into_iter().enumerate() {
        worst_loss = worst_loss.max((point.loss - losses[step]).abs());
        worst_norm = worst_norm.max((point.grad_norm / norms[step] - 1.0).abs());
        assert!((point.loss - losses[step]).abs() < 2e-5, "step {step}: loss {} for {}", point.loss, losses[step]);
        assert!((point.grad_norm / norms[step] - 1.0).abs() < 1e-4, "step {step}: norm {}", point.grad_norm);
        assert!((point.lr - f64::from(rates[step])).abs() < 1e-9, "step {step}: lr {}", point.lr);
    }
    eprintln!("losses differ by {worst_loss:e}, gradient norms by a share of {worst_norm:e}");
    // Adam moves a number by no more than about the rate in each step.
    let most = rates.iter().sum::<f32>() * 2.0;
    check_weights(&trainer.network, &Tensors::weights(&directory.join(last)), most, 2e-5);
}

/// The gradients of the first step, stored as if they were weights.
fn check_gradients(directory: &Path, batch: &Batch) {
    let mut network = Network::load(&directory.join("initial"), &Device::flex()).unwrap();
    let settings = LossSettings::default();
    let mut found = network.loss(batch, &Counts::of(batch), 1.0, &settings).unwrap().backward();
    let parameters = network.parameters_mut();
    for parameter in parameters.iter_mut() {
        parameter.set(parameter.value.grad_remove(&mut found).unwrap());
    }
    check_weights(&network, &Tensors::read(&directory.join("grads_step0.safetensors")), 1e-5, 1e-5);
}

#[test]
fn train_bert_parity_of_losses_norms_and_weights() {
    let directory = need!(fixture("train_bert"));
    let feed = Recorded::bert(&Tensors::read(&directory.join("batches.safetensors")));
    check_gradients(&directory, &feed.batches[0]);
    check_run(&directory, &feed, "token", "", "final");
}

/// A step's loss is the mean over all its targets, however they are divided.
#[test]
fn train_gpt2_parity_of_losses_norms_and_weights() {
    let directory = need!(fixture("train_gpt2"));
    let feed = Recorded::gpt2(&Tensors::read(&directory.join("batches.safetensors")));
    check_run(&directory, &feed, "token", "token_weighted.", "final_token_weighted");
}

/// A step's loss is the mean of its batches' means.
#[test]
fn train_gpt2_parity_of_means_of_means() {
    let directory = need!(fixture("train_gpt2"));
    let feed = Recorded::gpt2(&Tensors::read(&directory.join("batches.safetensors")));
    check_run(&directory, &feed, "batch", "", "final");
}
