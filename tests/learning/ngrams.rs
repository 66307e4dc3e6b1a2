//! Learning with embeddings of n-grams: answers aren't given away, and several devices, micro-batches and a resumed training
//! learn what one training does.

use crate::common::{objectives, pausing::Pausing};
use std::{collections::BTreeMap, sync::Arc};

use anyhow::Result;
use burn::tensor::Device;
use objectives::{Documents, SPECIALS, TEXT, spec};
use pipe::{
    engine::store::State,
    learning::{
        objectives::{AnswerForm, Corpus, Mix, Specials},
        train::{Cadence, Checkpoints, Silent, TrainSettings, Trainer},
    },
    network::{
        batch::{Example, Feed, Layout, Step, Target, lay_out},
        model::{Network, Parameters},
    },
    support::random::Key,
};
use serde_json::{Value, json};

const STEPS: usize = 8;
const VOCABULARY: usize = 24;

/// Texts of different lengths that say something again and again, others at each step.
struct Texts;

impl Feed for Texts {
    fn steps(&self) -> usize {
        STEPS
    }

    fn step(&self, step: usize) -> Result<Step> {
        let example = |id: u64| {
            let key = Key::new(id);
            let tokens: Vec<u32> = (0..8 + id % 9).map(|at| key.at(at % 4).below(VOCABULARY) as u32).collect();
            let targets = (1..tokens.len()).map(|at| Target { at: at as u32 - 1, token: tokens[at] }).collect();
            Example { targets, ..Example::sequence(id, tokens, 0) }
        };
        let batch = |number: u64| {
            let examples: Vec<Example> = (0..3).map(|at| example(6 * step as u64 + 3 * number + at)).collect();
            lay_out(&examples, Layout::Ragged, Key::new(9).at(number))
        };
        Ok(Step { batches: vec![batch(0), batch(1)], objective: "texts".into(), pair_weight: 1.0 })
    }
}

fn trainer(devices: usize, more: &Value) -> Trainer {
    let ngrams = json!({ "orders": [2, 3], "buckets": 300, "width": 4 });
    let model = json!({ "gpt2": { "hidden": 32, "layers": 2, "heads": 2, "max_length": 32, "ngrams": ngrams } });
    let network = Network::new(&spec(model), VOCABULARY, 7, &Device::flex()).unwrap();
    let mut train = json!({ "steps": STEPS, "lr": 5e-3, "warmup_steps": 2, "dropout": 0.1, "log_every": 4 });
    train.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    let mut trainer = Trainer::new(network, TrainSettings::new(&spec(train), STEPS, None).unwrap());
    trainer.share_with(vec![Device::flex(); devices - 1]);
    trainer
}

fn weights(parameters: &Parameters) -> BTreeMap<String, Vec<f32>> {
    let values = |parameter: &pipe::network::model::Parameter| parameter.data().unwrap().try_to_vec().unwrap();
    parameters.iter().map(|parameter| (parameter.name.clone(), values(parameter))).collect()
}

fn trained(devices: usize, more: &Value) -> BTreeMap<String, Vec<f32>> {
    let mut trainer = trainer(devices, more);
    trainer.run(&Texts, None, None, &mut Silent).unwrap();
    weights(trainer.network.parameters())
}

#[test]
fn devices_and_micro_batches_learn_the_same_rows() {
    for optimizer in [json!({}), json!({ "optimizer": { "sgd": {} } }), json!({ "optimizer": { "muon": {} } })] {
        let one = trained(1, &optimizer);
        let table = &one["ngrams.table"];
        let learned = table.chunks(4).filter(|row| row.iter().any(|&value| value != 0.0)).count();
        assert!((50..300).contains(&learned), "{learned} rows");
        for (devices, tokens) in [(2, None), (3, None), (1, Some(16)), (2, Some(16))] {
            let mut more = optimizer.clone();
            if let Some(tokens) = tokens {
                more["micro_batch"] = json!({ "tokens": tokens });
            }
            for (name, found) in trained(devices, &more) {
                let worst = found.iter().zip(&one[&name]).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
                assert!(worst < 2e-5, "{devices} devices, {more}: {name} is {worst} off");
            }
        }
    }
}

#[test]
fn a_resumed_training_learns_the_same_to_the_byte() {
    let directory = tempfile::tempdir().unwrap();
    let state = State::new(directory.path().join("state"), "key");
    let checkpoints = Checkpoints { every: Cadence::Steps(STEPS), state: state.clone(), last: None };
    assert!(trainer(1, &json!({})).run(&Texts, None, Some(&checkpoints), &mut Pausing(STEPS / 2)).unwrap().paused);
    let mut second = trainer(1, &json!({}));
    assert!(second.load_state(&state).unwrap());
    second.run(&Texts, None, None, &mut Silent).unwrap();
    assert!(weights(second.network.parameters()) == trained(1, &json!({})));
}

/// Words of the noise.
const WORDS: usize = 12;
const NOISE_STEPS: usize = 120;

/// Documents of words that tell nothing of each other, more than a training reads, so that nothing can be learned by heart.
fn noise() -> Documents {
    let word = |document: u64, at: u64| TEXT + Key::new(document).at(at).below(WORDS) as u32;
    Documents((0..1800).map(|document| vec![(0..24).map(|at| word(document, at)).collect()]).collect())
}

/// The mean loss of the last steps.
fn loss_on_noise(objective: &Value, ngrams: bool) -> f64 {
    let specials = Specials { vocab_size: TEXT as usize + WORDS, ..SPECIALS };
    let corpus = Corpus { text: Arc::new(noise()), specials, form: AnswerForm::Infilling };
    let train = json!({ "steps": NOISE_STEPS, "lr": 5e-3, "warmup_steps": 10, "dropout": 0.0, "max_length": 32,
        "batch": { "tokens": 256 } });
    let mix = Mix::new(&spec::<Vec<_>>(json!([objective])), &corpus, &spec(train.clone()), 1, Layout::Ragged).unwrap();
    let mut sizes = json!({ "hidden": 16, "layers": 1, "heads": 2, "max_length": 32 });
    if ngrams {
        sizes["ngrams"] = json!({ "buckets": 4096, "width": 8 });
    }
    let network = Network::new(&spec(json!({ "glm": sizes })), specials.vocab_size, 7, &Device::flex()).unwrap();
    let mut trainer = Trainer::new(network, TrainSettings::new(&spec(train), NOISE_STEPS, None).unwrap());
    trainer.run(&mix, None, None, &mut Silent).unwrap().loss
}

/// A text of twelve words in random order costs ln 12 = 2.485 a word, whatever is known of the others. What ends a text or a
/// blank can be told, so that all but masked words are held against the model without n-grams.
#[test]
fn random_text_stays_at_chance() {
    for objective in [
        json!({ "masked_lm": { "mask": 1.0 } }),
        json!({ "generative": { "causal_lm": {} } }),
        json!({ "generative": { "blank_infilling": {} } }),
        json!({ "generative": { "prefix_lm": {} } }),
    ] {
        let [without, with] = [false, true].map(|ngrams| loss_on_noise(&objective, ngrams));
        assert!(with > without - 0.03, "{objective}: {with} with n-grams, {without} without");
        if objective.get("masked_lm").is_some() {
            assert!((with - (WORDS as f64).ln()).abs() < 0.05, "{with} is not chance");
        }
    }
}
