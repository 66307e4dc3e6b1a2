//! Training steps on made-up text, to be timed: what a device can do, without data or a tokenizer.

use anyhow::Result;
use serde::Serialize;
use serde_json::{Value, json};

use crate::{
    learning::train::{Observer, Outcome, TrainSettings, Trainer},
    network::{
        batch::{Example, Feed, Layout, Step, Target, lay_out},
        device::{self, OpenDevices},
        model::Network,
    },
    spec::{MicroBatch, Precision, Train},
    support::random::Key,
};

/// Steps that aren't counted: kernels are compiled and chosen in them.
const WARMING: usize = 5;
/// Share of the tokens that masked_lm predicts.
const MASKED: f64 = 0.15;

/// A model and what it reads.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Shape {
    /// What it's called.
    pub name: &'static str,
    family: &'static str,
    hidden: usize,
    layers: usize,
    heads: usize,
    vocabulary: usize,
    /// Tokens of a text.
    pub length: usize,
    /// Texts of a batch.
    pub batch: usize,
}

/// The shapes there are; the first is for a look, and the last for tests.
pub const SHAPES: [Shape; 4] = [
    Shape {
        name: "small",
        family: "bert",
        hidden: 256,
        layers: 4,
        heads: 4,
        vocabulary: 8_000,
        length: 128,
        batch: 16,
    },
    Shape {
        name: "bert-base",
        family: "bert",
        hidden: 768,
        layers: 12,
        heads: 12,
        vocabulary: 30_522,
        length: 512,
        batch: 32,
    },
    Shape {
        name: "gpt2",
        family: "gpt2",
        hidden: 768,
        layers: 12,
        heads: 12,
        vocabulary: 50_257,
        length: 1024,
        batch: 16,
    },
    Shape { name: "tiny", family: "gpt2", hidden: 32, layers: 1, heads: 2, vocabulary: 100, length: 16, batch: 4 },
];

/// How to train.
#[derive(Clone, Copy, Debug)]
pub struct Benchmark {
    /// What.
    pub shape: Shape,
    /// In which precision.
    pub precision: Precision,
    /// Steps that are counted.
    pub steps: usize,
    /// Probability of dropping an activation.
    pub dropout: f64,
    /// What of a batch is computed at a time.
    pub micro_batch: MicroBatch,
}

/// How fast that was.
#[derive(Clone, Debug, Serialize)]
pub struct BenchResult {
    /// The devices, as they were opened.
    pub device: String,
    /// The shape's name.
    pub shape: &'static str,
    /// The precision.
    pub precision: Precision,
    /// masked_lm or causal_lm.
    pub objective: &'static str,
    /// Texts of a step.
    pub batch: usize,
    /// Tokens of a text.
    pub length: usize,
    /// Numbers that are trained.
    pub parameters: usize,
    /// Tokens a second.
    pub tokens_per_second: f64,
    /// Floating-point operations a second, as the model needs them.
    pub flops_per_second: f64,
    /// The most that the devices are made for.
    pub peak_flops_per_second: Option<f64>,
    /// Their ratio.
    pub mfu: Option<f64>,
    /// Seconds without batches.
    pub data_wait_seconds: f64,
    /// Bytes that the allocator of the device with most holds.
    pub device_memory_bytes: Option<u64>,
    /// The most memory that the process has held.
    pub peak_memory_bytes: Option<u64>,
    /// Token places at a time, where that was limited.
    pub micro_batch_tokens: Option<usize>,
    /// Mean loss of the last steps.
    pub loss: f64,
}

impl Shape {
    /// What it learns.
    pub fn objective(&self) -> &'static str {
        if self.family == "gpt2" { "causal_lm" } else { "masked_lm" }
    }

    fn model(&self) -> Value {
        let Self { hidden, layers, heads, length, .. } = self;
        json!({ self.family: { "hidden": hidden, "layers": layers, "heads": heads, "max_length": length } })
    }

    fn example(&self, id: u64, key: Key) -> Example {
        let tokens: Vec<u32> = (0..self.length as u64).map(|at| key.at(at).below(self.vocabulary) as u32).collect();
        let last = self.length as u32 - 1;
        if self.objective() == "causal_lm" {
            let targets = (0..last).map(|at| Target { at, token: tokens[at as usize + 1] }).collect();
            return Example { targets, ..Example::sequence(id, tokens, 0) };
        }
        let step = (1.0 / MASKED) as usize;
        let targets = (0..=last).step_by(step).map(|at| Target { at, token: tokens[at as usize] }).collect();
        Example { targets, ..Example::sequence(id, tokens, self.length) }
    }
}

/// Trains a new model, and tells how fast.
///
/// # Errors
/// What a device can't do.
pub fn run(plan: &Benchmark, open: &OpenDevices, observer: &mut dyn Observer) -> Result<BenchResult> {
    let Benchmark { shape, precision, .. } = *plan;
    open.all().try_for_each(|device| device.check_precision(precision))?;
    let devices = open.devices();
    let network = Network::new(&serde_json::from_value(shape.model())?, shape.vocabulary, 1, &open.first.device)?;
    let parameters = network.parameters().count();
    let steps = plan.steps + WARMING;
    let train: Train = serde_json::from_value(json!({
        "steps": steps, "lr": 1e-4, "precision": precision, "dropout": plan.dropout,
        "micro_batch": plan.micro_batch, "log_every": plan.steps.div_ceil(2), "max_length": shape.length,
    }))?;
    let mut settings = TrainSettings::new(&train, steps, None)?;
    let layout = if open.first.is_cpu() { Layout::Ragged } else { Layout::Rows { width: shape.length, packing: true } };
    let feed = MadeUp { shape, steps, layout };
    if plan.micro_batch == MicroBatch::Auto {
        settings.max_micro_batch_tokens =
            crate::stages::estimate::max_micro_batch_tokens(&network, &train, &feed.step(0)?, &devices);
    }
    let mut trainer = Trainer::new(network, settings);
    trainer.share_with(devices[1..].to_vec());
    let outcome = trainer.run(&feed, None, None, observer)?;
    let Outcome { tokens_per_second, flops_per_second, waited, micro_batch, peak_memory_bytes, loss, .. } = outcome;
    let peak = device::peak_together(&devices, precision);
    Ok(BenchResult {
        device: open.name(),
        shape: shape.name,
        precision,
        objective: shape.objective(),
        batch: shape.batch,
        length: shape.length,
        parameters,
        tokens_per_second,
        flops_per_second,
        peak_flops_per_second: peak,
        mfu: peak.map(|peak| flops_per_second / peak),
        data_wait_seconds: waited,
        device_memory_bytes: device::held(&devices),
        peak_memory_bytes,
        micro_batch_tokens: micro_batch,
        loss,
    })
}

/// Random texts, others at each step.
struct MadeUp {
    shape: Shape,
    steps: usize,
    layout: Layout,
}

impl Feed for MadeUp {
    fn steps(&self) -> usize {
        self.steps
    }

    fn step(&self, step: usize) -> Result<Step> {
        let key = Key::new(1).at(step as u64);
        let examples: Vec<_> = (0..self.shape.batch as u64).map(|id| self.shape.example(id, key.at(id))).collect();
        let objective = self.shape.objective().to_owned();
        Ok(Step { batches: vec![lay_out(&examples, self.layout, key)], objective, pair_weight: 1.0 })
    }
}
