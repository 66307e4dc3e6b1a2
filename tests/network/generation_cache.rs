//! A cache of keys and values changes how fast text is generated, and nothing else.

use crate::common::{need, parity};
use std::time::Instant;

use burn::tensor::Device;
use parity::fixture;
use pipe::{
    learning::generation::{FinishReason, GenerationSettings, Sampling, Vocabulary, extend},
    network::{
        batch::{Example, Layout, lay_out},
        model::{KvCache, KvForm, Network},
    },
    spec,
    support::random::Key,
};
use serde_json::{Value, json};

const VOCABULARY: u32 = 50;

/// Small models of the families that write, as they are and behind a prefix of trained keys and values.
fn networks() -> Vec<(&'static str, Network)> {
    let sizes = json!({ "hidden": 32, "layers": 2, "heads": 2, "max_length": 64, "initializer_range": 0.4 });
    let make = |family: &'static str| {
        let spec: spec::Model = serde_json::from_value(json!({ family: sizes })).unwrap();
        (family, Network::new(&spec, VOCABULARY as usize, 5, &Device::flex()).unwrap())
    };
    let families = ["glm", "gpt2", "chatglm", "chatglm2", "glm4", "transformer"];
    let prefix: spec::Adapter = serde_json::from_value(json!({ "p_tuning": { "tokens": 3 } })).unwrap();
    let behind = families.map(make).map(|(family, mut network)| {
        network.adapt(&prefix, 3).unwrap();
        (family, network)
    });
    families.map(make).into_iter().chain(behind).collect()
}

/// Logits after the last token, with nothing remembered.
fn recomputed(network: &Network, example: &Example) -> Vec<f32> {
    let batch = lay_out(&[example], Layout::Ragged, Key::new(0));
    network.logits_at(&batch, &[example.tokens.len() as u32 - 1]).unwrap().remove(0)
}

fn likeliest(logits: &[f32]) -> u32 {
    (0..logits.len()).rev().max_by(|&a, &b| logits[a].total_cmp(&logits[b])).unwrap() as u32
}

/// Equal but for the rounding of sums that were taken in another order.
fn assert_same(found: &[f32], expected: &[f32], what: &str) {
    let largest = expected.iter().fold(0.0, |largest: f32, logit| largest.max(logit.abs()));
    let share = parity::furthest(found, expected) / largest;
    assert!(share < 5e-6, "{what}: {share:e} of the largest logit");
}

/// A prompt seen in both directions up to `prefix`, for GLM with a block that has begun.
fn prompt(seed: u64, length: u64, prefix: usize) -> Example {
    let token = |at| Key::new(seed).at(at).below(VOCABULARY as usize) as u32;
    Example::sequence(0, (0..length).map(token).collect(), prefix)
}

fn grow(example: &mut Example, token: u32) {
    example.tokens.push(token);
    example.positions.push(7);
    example.block_positions.push(example.tokens.len() as u32);
    example.span_ends.push(example.tokens.len() as u32);
}

#[test]
fn cached_tokens_are_the_recomputed_ones() {
    for (family, network) in networks() {
        for prefix in [0, 6] {
            let mut example = prompt(1, 8, prefix);
            let mut cache = KvCache::with_capacity(10);
            for step in 0..40 {
                let (cached, whole) =
                    (network.next_logits(&example, &mut cache).unwrap(), recomputed(&network, &example));
                assert_same(&cached, &whole, &format!("{family}, step {step}"));
                assert_eq!(likeliest(&cached), likeliest(&whole), "{family}, step {step}");
                grow(&mut example, likeliest(&cached));
                assert_eq!(cache.len(), example.tokens.len() - 1);
            }
        }
    }
}

#[test]
fn cache_of_another_sequence_changes_nothing() {
    for (family, network) in networks() {
        let mut cache = KvCache::default();
        for example in [prompt(1, 30, 6), prompt(1, 12, 6), prompt(1, 40, 20), prompt(2, 5, 0), prompt(2, 60, 60)] {
            let cached = network.next_logits(&example, &mut cache).unwrap();
            assert_same(&cached, &recomputed(&network, &example), family);
        }
    }
}

#[test]
fn cache_outlives_sequences_that_do_not_fit() {
    for (family, network) in networks() {
        let mut cache = KvCache::default();
        let example = prompt(3, 20, 0);
        let before = network.next_logits(&example, &mut cache).unwrap();
        let mut wrong = example.clone();
        grow(&mut wrong, VOCABULARY);
        assert!(network.next_logits(&wrong, &mut cache).is_err());
        assert!(network.next_logits(&Example::default(), &mut cache).is_err());
        let after = network.next_logits(&example, &mut cache).unwrap();
        assert_eq!(likeliest(&before), likeliest(&after), "{family}");
        assert_same(&before, &after, family);
    }
}

/// A reference's prompt: its positions where they're given, ChatGLM's by its rule, or else those of any text.
pub(crate) fn reference_prompt(config: &Value, case: &Value) -> Example {
    let ids = |name: &str| -> Option<Vec<u32>> { serde_json::from_value(case[name].clone()).ok() };
    let tokens = ids("prompt_ids").unwrap();
    let length = tokens.len();
    let place = |name: &str| {
        let id = config[name].as_u64()? as u32;
        tokens.iter().position(|&token| token == id)
    };
    let positions = "position_ids_of_prompt_and_all_but_last_new";
    if let Ok([positions, blocks]) = serde_json::from_value::<[Vec<u32>; 2]>(case[positions].clone()) {
        let boundary = case["attention_boundary"].as_u64().unwrap() as usize;
        let mut example = Example::sequence(0, tokens, boundary);
        example.positions.copy_from_slice(&positions[..length]);
        example.block_positions.copy_from_slice(&blocks[..length]);
        return example;
    }
    if config["position_encoding_2d"] == true {
        let context = place("bos_token_id").unwrap();
        let mask = place("gmask_token_id").or_else(|| place("mask_token_id")).unwrap() as u32;
        let mut example = Example::sequence(0, tokens, context);
        example.positions[context..].fill(mask);
        (1..).zip(&mut example.block_positions[context..]).for_each(|(block, position)| *position = block);
        return example;
    }
    Example::sequence(0, tokens, 0)
}

/// The reference implementations' greedy paths, with their ends.
#[test]
fn parity_of_greedy_generation_with_a_cache() {
    need!(fixture("gpt2"));
    assert!(follow_references(KvForm::F32, 0.0) > 10);
}

/// Where the next token is clear: rounding to eight bits moves logits.
#[test]
fn parity_of_greedy_generation_with_a_cache_in_half_the_memory() {
    need!(fixture("gpt2"));
    assert!(follow_references(KvForm::Bf16, 0.02) > 5);
}

/// Holds what is written with such a cache against the references' paths on which the likeliest token is so much ahead of the next;
/// tells how many there were.
fn follow_references(form: KvForm, margin: f64) -> usize {
    let mut followed = 0;
    for family in ["gpt2", "glm_original", "chatglm1", "chatglm2", "glm", "glm4"] {
        let directory = match fixture(family) {
            Ok(directory) => directory,
            Err(unmet) => {
                unmet.tell();
                continue;
            }
        };
        let read = |name| -> Value { serde_json::from_slice(&std::fs::read(directory.join(name)).unwrap()).unwrap() };
        let network = Network::load(&directory, &Device::flex()).unwrap();
        let config = read("config.json");
        let cases = read("generation.json");
        let is_clear = |case: &&Value| case["min_top2_margin"].as_f64().is_none_or(|clear| clear > margin);
        for case in cases.as_array().unwrap().iter().filter(is_clear) {
            let ids = |name: &str| -> Vec<u32> { serde_json::from_value(case[name].clone()).unwrap() };
            let vocabulary = Vocabulary { ends: ids("eos_token_id"), forbidden: Vec::new(), size: usize::MAX };
            let most = case["max_new_tokens"].as_u64().unwrap() as usize;
            let settings = GenerationSettings::new(Sampling::GREEDY, 0, most);
            let mut example = reference_prompt(&config, case);
            let mut written = Vec::new();
            let mut cache = KvCache::default().held_as(form);
            let end = extend(&network, &mut cache, &mut example, 1024, &vocabulary, &settings, &mut |token| {
                written.push(token);
                Ok(None)
            });
            let expected = ids("new_ids");
            match end.unwrap() {
                FinishReason::Token => {
                    let (last, before) = expected.split_last().unwrap();
                    assert_eq!(written, before, "{family}");
                    assert!(vocabulary.ends.contains(last), "{family}");
                }
                _ => assert_eq!(written, expected, "{family}"),
            }
            followed += 1;
        }
    }
    followed
}

/// Tokens a second with a cache and without: `cargo test --release --test network generation_cache -- --ignored --nocapture`.
#[test]
#[ignore = "takes half a minute"]
fn table_of_speeds() {
    const TOKENS: usize = 200;
    eprintln!("{:>6} {:>6} {:>8} {:>8} {:>6}", "family", "hidden", "cached", "whole", "ratio");
    for family in ["glm", "gpt2", "transformer"] {
        for (hidden, layers) in [(128, 4), (256, 6)] {
            let sizes = json!({ "hidden": hidden, "layers": layers, "heads": hidden / 64, "max_length": 512 });
            let spec: spec::Model = serde_json::from_value(json!({ family: sizes })).unwrap();
            let network = Network::new(&spec, 8000, 5, &Device::flex()).unwrap();
            let speed = |next: &mut dyn FnMut(&Example) -> Vec<f32>| {
                let mut example = prompt(1, 64, 64);
                next(&example);
                let start = Instant::now();
                for _ in 0..TOKENS {
                    let token = likeliest(&next(&example));
                    grow(&mut example, token);
                }
                TOKENS as f64 / start.elapsed().as_secs_f64()
            };
            let mut cache = KvCache::default();
            let cached = speed(&mut |example| network.next_logits(example, &mut cache).unwrap());
            let whole = speed(&mut |example| recomputed(&network, example));
            eprintln!("{family:>6} {hidden:>6} {cached:>8.0} {whole:>8.0} {:>6.1}", cached / whole);
        }
    }
}
