//! Several devices learn what one does from the same batches. Here they're all the CPU, in several roles.

use crate::common;
use std::{collections::BTreeMap, path::Path};

use anyhow::Result;
use burn::tensor::Device;
use common::{Space, TINY, pausing::Pausing, tiny};
use pipe::{
    engine::store::State,
    learning::train::{Cadence, Checkpoints, Curve, Silent, TrainSettings, Trainer},
    network::{
        batch::{Batch, Example, Feed, Layout, Step, Target, lay_out},
        model::Network,
    },
    support::random::Key,
};
use serde_json::{Value, json};

const VOCABULARY: usize = 24;
const STEPS: usize = 10;

/// How a step's examples are laid out.
#[derive(Clone, Copy)]
struct Shape {
    /// Examples of each batch.
    batches: &'static [usize],
    layout: Layout,
}

const ROWS: Layout = Layout::Rows { width: 20, packing: false };

/// Texts of different lengths, others at each step. With pairs, some tokens are to be guessed from all others, and in
/// every batch but the last it's to be told whether sentences follow each other; without, each token from those before it.
struct Texts {
    shape: Shape,
    pairs: bool,
}

impl Texts {
    fn example(&self, id: u64, pair: bool) -> Example {
        let key = Key::new(id);
        let tokens: Vec<u32> = (0..8 + id % 9).map(|at| key.at(at).below(VOCABULARY) as u32).collect();
        let length = tokens.len();
        if self.pairs {
            let guessed = (1..length).step_by(3).map(|at| Target { at: at as u32, token: tokens[at] }).collect();
            let pair = pair.then_some(id as u32 % 2);
            return Example { targets: guessed, pair, ..Example::sequence(id, tokens, length) };
        }
        let targets = (1..length).map(|at| Target { at: at as u32 - 1, token: tokens[at] }).collect();
        Example { targets, ..Example::sequence(id, tokens, 0) }
    }
}

impl Feed for Texts {
    fn steps(&self) -> usize {
        STEPS
    }

    fn step(&self, step: usize) -> Result<Step> {
        let Shape { batches, layout } = self.shape;
        let mut id = 100 * step as u64;
        let batch = |(number, &size): (usize, &usize)| -> Batch {
            let pair = number == 0 || number + 1 < batches.len();
            let examples: Vec<Example> = (0..size as u64).map(|at| self.example(id + at, pair)).collect();
            id += size as u64;
            lay_out(&examples, layout, Key::new(9).at(id))
        };
        let batches = batches.iter().enumerate().map(batch).collect();
        Ok(Step { batches, objective: "texts".into(), pair_weight: 0.5 })
    }
}

fn settings(more: &Value) -> TrainSettings {
    let mut train = json!({ "steps": STEPS, "lr": 5e-3, "warmup_steps": 2, "dropout": 0.1, "log_every": 4 });
    train.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    TrainSettings::new(&serde_json::from_value(train).unwrap(), STEPS, None).unwrap()
}

fn trainer(family: &str, devices: usize, more: &Value) -> Trainer {
    let model = json!({ family: { "hidden": 32, "layers": 2, "heads": 2, "max_length": 32 } });
    let mut network = Network::new(&serde_json::from_value(model).unwrap(), VOCABULARY, 7, &Device::flex()).unwrap();
    if family == "bert" {
        network.add_pair_head(7);
    }
    let mut trainer = Trainer::new(network, settings(more));
    trainer.share_with(vec![Device::flex(); devices - 1]);
    trainer
}

fn trained(feed: &Texts, devices: usize, more: &Value) -> Trainer {
    let mut trainer = trainer(if feed.pairs { "bert" } else { "gpt2" }, devices, more);
    trainer.run(feed, None, None, &mut Silent).unwrap();
    trainer
}

fn losses(curve: &Curve) -> Vec<f32> {
    curve.points().map(|point| point.loss).collect()
}

fn weights(network: &Network) -> BTreeMap<String, Vec<f32>> {
    let parameters = network.parameters().iter();
    parameters.map(|parameter| (parameter.name.clone(), parameter.data().unwrap().try_to_vec().unwrap())).collect()
}

fn assert_near(found: &[f32], expected: &[f32], tolerance: f32, what: &str) {
    assert_eq!(found.len(), expected.len());
    for (found, expected) in found.iter().zip(expected) {
        assert!((found - expected).abs() < tolerance, "{what}: {found} instead of {expected}");
    }
}

/// Two devices and three learn what one does.
fn assert_same_curves(feed: &Texts, more: &Value) {
    let one = losses(trained(feed, 1, more).curve());
    assert_eq!(one.len(), STEPS);
    for devices in [2, 3] {
        let several = losses(trained(feed, devices, more).curve());
        assert_near(&several, &one, 1e-5, &format!("{devices} devices"));
    }
}

#[test]
fn masked_tokens_and_pairs_are_learned_as_on_one_device() {
    // The last batch has no pairs: a device that has nothing else has no gradient for them.
    for batches in [&[6][..], &[3, 2, 4], &[4, 4]] {
        for layout in [Layout::Ragged, ROWS] {
            for normalization in ["token", "batch"] {
                let feed = Texts { shape: Shape { batches, layout }, pairs: true };
                assert_same_curves(&feed, &json!({ "loss_normalization": normalization }));
            }
        }
    }
}

/// Has pairs in every other step only.
struct Sometimes(Texts);

impl Feed for Sometimes {
    fn steps(&self) -> usize {
        STEPS
    }

    fn step(&self, step: usize) -> Result<Step> {
        let mut texts = self.0.step(step)?;
        if step % 2 == 1 {
            texts.batches.iter_mut().for_each(|batch| batch.pairs.clear());
        }
        Ok(texts)
    }
}

#[test]
fn what_some_steps_have_no_gradient_for_is_left_alone_on_every_device() {
    // In steps that have pairs the last batch has none, so that a device or a micro-batch may lack a gradient that
    // another has.
    let feed = Sometimes(Texts { shape: Shape { batches: &[3, 3, 3], layout: Layout::Ragged }, pairs: true });
    let trained = |devices: usize, more: Value| {
        let mut trainer = trainer("bert", devices, &more);
        trainer.run(&feed, None, None, &mut Silent).unwrap();
        trainer
    };
    let one = trained(1, json!({}));
    let limited = json!({ "micro_batch": { "tokens": 16 } });
    for (devices, more) in [(2, json!({})), (3, json!({})), (1, limited.clone()), (2, limited)] {
        let what = format!("{devices} devices, {more}");
        let found = trained(devices, more);
        assert_near(&losses(found.curve()), &losses(one.curve()), 1e-5, &what);
        let (found, expected) = (weights(&found.network), weights(&one.network));
        for (name, expected) in expected.iter().filter(|(name, _)| !name.ends_with("key.bias")) {
            assert_near(&found[name], expected, 1e-5, &format!("{what}: {name}"));
        }
    }
}

#[test]
fn next_tokens_are_learned_as_on_one_device() {
    for batches in [&[5][..], &[2, 2, 3]] {
        let feed = Texts { shape: Shape { batches, layout: Layout::Ragged }, pairs: false };
        assert_same_curves(&feed, &json!({}));
    }
}

#[test]
fn steps_with_fewer_rows_than_devices_leave_some_idle() {
    for layout in [Layout::Ragged, ROWS] {
        let feed = Texts { shape: Shape { batches: &[1], layout }, pairs: true };
        assert_same_curves(&feed, &json!({}));
        let feed = Texts { shape: Shape { batches: &[2], layout }, pairs: false };
        assert_same_curves(&feed, &json!({}));
    }
}

#[test]
fn micro_batches_and_scaled_losses_stay_within_each_device() {
    let feed = Texts { shape: Shape { batches: &[6], layout: Layout::Ragged }, pairs: false };
    assert_same_curves(&feed, &json!({ "micro_batch": { "tokens": 16 } }));
    let half = json!({ "precision": "f16", "micro_batch": "auto" });
    let [one, two] = [1, 2].map(|devices| losses(trained(&feed, devices, &half).curve()));
    assert_near(&two, &one, 2e-3, "f16");
}

#[test]
fn the_same_devices_give_the_same_bytes() {
    let feed = Texts { shape: Shape { batches: &[3, 3, 3], layout: Layout::Ragged }, pairs: true };
    let [first, second] = [(); 2].map(|()| trained(&feed, 2, &json!({})));
    assert_eq!(first.curve(), second.curve());
    assert!(weights(&first.network) == weights(&second.network));
    assert_eq!(first.devices().len(), 2);
}

#[test]
fn training_goes_on_with_another_number_of_devices() {
    let feed = Texts { shape: Shape { batches: &[5], layout: Layout::Ragged }, pairs: true };
    let directory = tempfile::tempdir().unwrap();
    let state = State::new(directory.path().join("state"), "key");
    // Half of the steps, on so many devices, and the rest on others.
    let halves = |first: usize, second: usize| {
        let checkpoints = Checkpoints { every: Cadence::Steps(STEPS), state: state.clone(), last: None };
        let outcome =
            trainer("bert", first, &json!({})).run(&feed, None, Some(&checkpoints), &mut Pausing(STEPS / 2)).unwrap();
        assert!(outcome.paused);
        let mut trainer = trainer("bert", second, &json!({}));
        assert!(trainer.load_state(&state).unwrap());
        assert_eq!(trainer.steps_done(), STEPS / 2);
        trainer.run(&feed, None, None, &mut Silent).unwrap();
        trainer
    };
    let whole = trained(&feed, 1, &json!({}));
    assert_near(&losses(halves(1, 2).curve()), &losses(whole.curve()), 1e-5, "one device, then two");
    assert_near(&losses(halves(3, 1).curve()), &losses(whole.curve()), 1e-5, "three devices, then one");
    let two = trained(&feed, 2, &json!({}));
    let stopped = halves(2, 2);
    assert_eq!(stopped.curve(), two.curve());
    assert!(weights(&stopped.network) == weights(&two.network));
}

const LORA: &str = "      adapter: { lora: { r: 4, alpha: 8, targets: [query_key_value] } }\n";

/// The tiny recipe, finetuned with LoRA, in ten steps each.
fn adapted() -> Space {
    let space = tiny();
    let recipe = TINY.replace("      from: base\n", &format!("      from: base\n{LORA}"));
    let recipe = recipe.replace("steps: 8", "steps: 10").replace("epochs: 2", "steps: 10, keep_best: accuracy");
    space.write("recipe.yaml", recipe);
    space
}

/// A stage's training losses, and what was measured on the way.
fn curve(space: &Space, stage: &Value) -> Vec<f32> {
    let path = Path::new(stage["path"].as_str().expect("a path")).join("curve.jsonl");
    let text = std::fs::read_to_string(space.path().join(path)).expect("a curve");
    let lines = text.lines().map(|line| serde_json::from_str(line).expect("JSON"));
    lines.filter_map(|line: Value| line["loss"].as_f64()).map(|loss| loss as f32).collect()
}

#[test]
fn recipes_run_on_several_devices_as_on_one() {
    let space = adapted();
    let run = |store: &str, devices: &[&str]| -> Value {
        space.json(&[&["--store", store, "run", "recipe.yaml"], devices].concat())
    };
    let (one, two) = (run("one", &["--device", "cpu"]), run("two", &["--devices", "cpu:0-1"]));
    for stage in ["base", "topics"] {
        let (one, two) = (&one["stages"][stage], &two["stages"][stage]);
        let (expected, found) = (curve(&space, one), curve(&space, two));
        assert!(expected.len() >= 10, "{expected:?}");
        assert_near(&found, &expected, 1e-5, stage);
        assert_eq!(one["metrics"]["parameters"], two["metrics"]["parameters"]);
        assert_eq!((one["metrics"].get("devices"), &two["metrics"]["devices"]), (None, &json!(2)));
    }
    // The devices aren't in the key; weights are, and these are rounded otherwise.
    assert_eq!(one["stages"]["base"]["key"], two["stages"]["base"]["key"]);
    let record = |stage: &str| -> Value {
        let path = space.path().join(two["stages"][stage]["path"].as_str().expect("a path"));
        serde_json::from_str(&std::fs::read_to_string(path.join("artifact.json")).expect("a record")).expect("JSON")
    };
    assert_eq!(record("topics")["provenance"]["device"], "cpu:0, cpu:1");
    assert_eq!(record("test")["provenance"]["device"], "cpu:0");

    // What was learned on two devices is there for any others, and the recipe may name them.
    space.write("recipe.yaml", format!("devices: cpu:0-2\n{}", space.read("recipe.yaml")));
    let again = space.statuses(&["recipe.yaml", "--store", "two"]);
    assert_eq!(again, "base=hit test=hit tokens=hit topics=hit");
    let three = run("three", &[]);
    assert_eq!(three["stages"]["base"]["metrics"]["devices"], 3);
    let alone = run("four", &["--device", "cpu"]);
    assert_eq!(alone["stages"]["base"]["digest"], one["stages"]["base"]["digest"]);
}

#[test]
fn sweeps_and_benchmarks_take_several_devices() {
    let space = tiny();
    space.write("recipe.yaml", format!("{TINY}sweep: {{ grid: {{ stages.topics.train.lr: [1e-3, 2e-3] }} }}\n"));
    let sweep = space.json(&["sweep", "recipe.yaml", "--devices", "cpu:0-1"]);
    assert_eq!(sweep["cells"].as_array().map(Vec::len), Some(2));
    let arguments = ["bench", "--shape", "tiny", "--steps", "2", "--devices", "cpu:0-1"];
    assert_eq!(space.json(&arguments)[0]["device"], "cpu:0, cpu:1");
}
