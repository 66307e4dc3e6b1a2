//! Trainings go on from device to device, and several devices share one.

use burn::tensor::Device;
use pipe::{
    engine::store::State,
    learning::train::{Observer, Progress, TrainSettings, Trainer},
    network::{
        batch::{Example, Feed, Layout, Step, Target, lay_out},
        device::{DeviceChoice, DeviceChoices, OpenDevice},
        model::Network,
    },
    spec,
    support::random::Key,
};
use serde_json::json;

use super::gpus;
use crate::common::needs::Need;

#[test]
fn checkpoints_of_one_backend_are_gone_on_from_on_another() {
    for (_, gpu) in gpus() {
        let cpu = DeviceChoice::Cpu.open().expect("the CPU");
        let straight = trained(&[(&cpu, 8)], &[]);
        for path in [[(&cpu, 4), (&gpu, 8)], [(&gpu, 4), (&cpu, 8)]] {
            assert_same_losses(&trained(&path, &[]), &straight);
        }
    }
}

#[test]
fn devices_that_share_steps_learn_what_one_does() {
    for (name, gpu) in gpus() {
        let alone = trained(&[(&gpu, 8)], &[]);
        // In two roles; more than one GPU is nowhere but where there is more than one.
        assert_same_losses(&trained(&[(&gpu, 8)], std::slice::from_ref(&gpu.device)), &alone);
        let all = name.parse::<DeviceChoices>().and_then(DeviceChoices::found).expect("devices");
        if all.count() == 1 {
            Need::SeveralGpus.unmet(format!("there is one device for {name}")).tell();
            continue;
        }
        let devices = all.open().expect("several devices").devices();
        assert_same_losses(&trained(&[(&gpu, 8)], &devices[1..]), &alone);
    }
}

fn assert_same_losses(found: &[f32], expected: &[f32]) {
    assert_eq!(found.len(), expected.len());
    for (step, (found, expected)) in (1..).zip(found.iter().zip(expected)) {
        assert!((found - expected).abs() < 1e-3, "step {step}: {found} instead of {expected}");
    }
}

/// Tells on stderr how gradients are brought together.
struct Talk;

impl Observer for Talk {
    fn progressed(&mut self, _progress: &Progress) {}

    fn noted(&mut self, text: &str) {
        eprintln!("{text}");
    }
}

/// Losses of a training that goes on from device to device, up to so many steps on each, and shares them with others.
fn trained(path: &[(&OpenDevice, usize)], others: &[Device]) -> Vec<f32> {
    let state = tempfile::tempdir().expect("a directory");
    let state = State::new(state.path().join("state"), "key");
    let mut losses = Vec::new();
    for &(open, last) in path {
        let ngrams = json!({ "buckets": 64, "width": 4 });
        let model = json!({ "gpt2": { "hidden": 16, "layers": 1, "heads": 2, "max_length": 16, "ngrams": ngrams } });
        let model = serde_json::from_value(model).expect("a model");
        let network = Network::new(&model, 24, 7, &open.device).expect("a network");
        let train = json!({ "steps": 8, "lr": 1e-2, "dropout": 0.1 });
        let train = serde_json::from_value(train).expect("settings");
        let mut settings = TrainSettings::new(&train, 8, None).expect("settings");
        // The schedule's rates stay those of eight steps, since they don't fall.
        settings.schedule.kind = spec::Schedule::Constant;
        settings.schedule.steps = last;
        let mut trainer = Trainer::new(network, settings);
        trainer.load_state(&state).expect("a state");
        trainer.share_with(others.to_vec());
        trainer.run(&Texts, None, None, &mut Talk).expect("a training");
        trainer.save_state(&state).expect("a state");
        losses = trainer.curve().points().map(|point| point.loss).collect();
    }
    losses
}

/// Four texts, the same at each step but for what is dropped, in rows that any backend takes.
struct Texts;

impl Feed for Texts {
    fn steps(&self) -> usize {
        8
    }

    fn step(&self, step: usize) -> anyhow::Result<Step> {
        let text = |id: u64| {
            let tokens: Vec<u32> = (0..10).map(|at| Key::new(id).at(at).below(24) as u32).collect();
            let targets = (1..10).map(|at| Target { at: at - 1, token: tokens[at as usize] }).collect();
            Example { targets, ..Example::sequence(id, tokens, 0) }
        };
        let examples: Vec<Example> = (0..4).map(text).collect();
        let layout = Layout::Rows { width: 16, packing: true };
        let batch = lay_out(&examples, layout, Key::new(1).at(step as u64));
        Ok(Step { batches: vec![batch], objective: "causal_lm".into(), pair_weight: 1.0 })
    }
}
