//! A moving average of the weights is what is measured and kept; training goes on with the weights themselves.

use crate::common::{objectives, pausing::Pausing};
use std::collections::BTreeMap;

use anyhow::Result;
use burn::tensor::Device;
use objectives::spec;
use pipe::{
    engine::store::State,
    learning::train::{Cadence, Checkpoints, Evaluation, Metrics, Silent, TrainSettings, Trainer},
    network::{
        batch::{Example, Feed, Layout, Step, Target, lay_out},
        model::Network,
    },
    spec::DevMetric,
    support::random::Key,
};
use serde_json::{Value, json};

const STEPS: usize = 6;

struct Texts;

impl Feed for Texts {
    fn steps(&self) -> usize {
        STEPS
    }

    fn step(&self, step: usize) -> Result<Step> {
        let tokens: Vec<u32> = (0..10).map(|at| Key::new(step as u64).at(at).below(24) as u32).collect();
        let targets = (1..10).map(|at| Target { at: at - 1, token: tokens[at as usize] }).collect();
        let example = Example { targets, ..Example::sequence(step as u64, tokens, 0) };
        let batch = lay_out(&[example], Layout::Ragged, Key::new(1).at(step as u64));
        Ok(Step { batches: vec![batch], objective: "texts".into(), pair_weight: 1.0 })
    }
}

/// One of so many steps, all with the same rate.
fn trainer(steps: usize, more: &Value) -> Trainer {
    let model = json!({ "gpt2": { "hidden": 16, "layers": 1, "heads": 2, "max_length": 16 } });
    let network = Network::new(&spec(model), 24, 7, &Device::flex()).unwrap();
    let mut train = json!({ "steps": steps, "lr": 1e-2, "schedule": "constant" });
    train.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    Trainer::new(network, TrainSettings::new(&spec(train), steps, None).unwrap())
}

fn averaged() -> Value {
    json!({ "average": { "decay": 0.7 } })
}

type Weights = BTreeMap<String, Vec<f32>>;

fn weights(network: &Network) -> Weights {
    let parameters = network.parameters().iter();
    parameters.map(|parameter| (parameter.name.clone(), parameter.data().unwrap().try_to_vec().unwrap())).collect()
}

/// The weights after so many steps.
fn trained(steps: usize, more: &Value) -> Weights {
    let mut trainer = trainer(steps, more);
    trainer.run(&Texts, None, None, &mut Silent).unwrap();
    weights(&trainer.network)
}

/// The average of the weights after each of so many steps.
fn expected(steps: usize) -> Weights {
    let mut average = trained(1, &json!({}));
    for step in 2..=steps {
        for (name, values) in trained(step, &json!({})) {
            let averages = average.get_mut(&name).unwrap();
            averages.iter_mut().zip(values).for_each(|(average, value)| *average = 0.7 * *average + 0.3 * value);
        }
    }
    average
}

fn assert_near(found: &Weights, expected: &Weights) {
    for (name, expected) in expected {
        let worst = found[name].iter().zip(expected).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
        assert!(worst < 1e-6, "{name} is {worst} off");
    }
}

#[test]
fn the_average_over_the_steps_is_measured_and_kept() {
    let expected: Vec<Weights> = [3, STEPS].map(expected).into();
    let mut measured = Vec::new();
    let mut measure = |network: &Network| {
        measured.push(weights(network));
        // The first measurement is the best one.
        Ok(Metrics::from([("loss".to_owned(), measured.len() as f64)]))
    };
    let mut trainer = trainer(STEPS, &averaged());
    let evaluation =
        Evaluation { every: 3, measure: &mut measure, keep_best: Some(DevMetric::LOSS), early_stopping: None };
    trainer.run(&Texts, Some(evaluation), None, &mut Silent).unwrap();
    assert_eq!(measured.len(), 2);
    measured.iter().zip(&expected).for_each(|(found, expected)| assert_near(found, expected));
    assert!(weights(&trainer.network) == measured[0]);
    assert_near(&trained(STEPS, &averaged()), &expected[1]);
}

#[test]
fn an_average_goes_on_where_a_training_was_stopped() {
    let directory = tempfile::tempdir().unwrap();
    let state = State::new(directory.path().join("state"), "key");
    let checkpoints = Checkpoints { every: Cadence::Steps(STEPS), state: state.clone(), last: None };
    assert!(trainer(STEPS, &averaged()).run(&Texts, None, Some(&checkpoints), &mut Pausing(STEPS / 2)).unwrap().paused);
    let mut second = trainer(STEPS, &averaged());
    assert!(second.load_state(&state).unwrap());
    second.run(&Texts, None, None, &mut Silent).unwrap();
    assert!(weights(&second.network) == trained(STEPS, &averaged()));
}
