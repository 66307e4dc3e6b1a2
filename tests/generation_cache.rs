//! A cache of keys and values changes how fast text is generated, and nothing else.

mod parity;

use burn::tensor::Device;
use parity::fixture;
use pipe::{
    batch::{Example, Layout, lay_out, random::Key},
    model::{Cache, Network},
    recipe::spec,
};
use serde_json::{Value, json};

const VOCABULARY: u32 = 50;

/// Small models of the families that write.
fn networks() -> Vec<(&'static str, Network)> {
    let sizes = json!({ "hidden": 32, "layers": 2, "heads": 2, "max_length": 64, "initializer_range": 0.4 });
    let make = |family: &'static str| {
        let spec: spec::Model = serde_json::from_value(json!({ family: sizes })).unwrap();
        (family, Network::new(&spec, VOCABULARY as usize, 5, &Device::flex()).unwrap())
    };
    ["glm", "gpt2", "chatglm", "chatglm2", "glm4"].map(make).into()
}

/// Logits after the last token, with nothing remembered.
fn recomputed(network: &Network, example: &Example) -> Vec<f32> {
    let batch = lay_out(&[example], Layout::Ragged, Key::new(0));
    network.logits_at(&batch, &[example.tokens.len() as u32 - 1]).unwrap().remove(0)
}

fn likeliest(logits: &[f32]) -> u32 {
    (0..logits.len()).rev().max_by(|&a, &b| logits[a].total_cmp(&logits[b])).unwrap() as u32
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
    example.visible.push(example.tokens.len() as u32);
}

#[test]
fn cached_tokens_are_the_recomputed_ones() {
    for (family, network) in networks() {
        for prefix in [0, 6] {
            let mut example = prompt(1, 8, prefix);
            let mut cache = Cache::with_capacity(10);
            for step in 0..40 {
                let (cached, whole) =
                    (network.next_logits(&example, &mut cache).unwrap(), recomputed(&network, &example));
                let furthest = parity::furthest(&cached, &whole);
                assert!(furthest < 2e-5, "{family}, step {step}: {furthest:e}");
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
        let mut cache = Cache::default();
        for example in [prompt(1, 30, 6), prompt(1, 12, 6), prompt(1, 40, 20), prompt(2, 5, 0), prompt(2, 60, 60)] {
            let cached = network.next_logits(&example, &mut cache).unwrap();
            let furthest = parity::furthest(&cached, &recomputed(&network, &example));
            assert!(furthest < 2e-5, "{family}: {furthest:e}");
        }
    }
}

#[test]
fn cache_outlives_sequences_that_do_not_fit() {
    for (family, network) in networks() {
        let mut cache = Cache::default();
        let example = prompt(3, 20, 0);
        let before = network.next_logits(&example, &mut cache).unwrap();
        let mut wrong = example.clone();
        grow(&mut wrong, VOCABULARY);
        assert!(network.next_logits(&wrong, &mut cache).is_err());
        assert!(network.next_logits(&Example::default(), &mut cache).is_err());
        let after = network.next_logits(&example, &mut cache).unwrap();
        assert_eq!(likeliest(&before), likeliest(&after), "{family}");
        assert!(parity::furthest(&before, &after) < 2e-5, "{family}");
    }
}

/// The reference implementations' greedy paths, for prompts in which each token sees those before it.
#[test]
fn parity_of_greedy_generation_with_a_cache() {
    for family in ["gpt2"] {
        let Some(directory) = fixture(family) else { continue };
        let network = Network::load(&directory, &Device::flex()).unwrap();
        let cases: Value = serde_json::from_slice(&std::fs::read(directory.join("generation.json")).unwrap()).unwrap();
        for case in cases.as_array().unwrap() {
            let numbers = |name: &str| -> Vec<u32> { serde_json::from_value(case[name].clone()).unwrap() };
            let mut tokens = numbers("prompt_ids");
            let mut cache = Cache::default();
            for expected in numbers("new_ids") {
                let example = Example::sequence(0, tokens.clone(), 0);
                let next = likeliest(&network.next_logits(&example, &mut cache).unwrap());
                assert_eq!(next, expected, "{family}: after {tokens:?}");
                tokens.push(next);
            }
        }
    }
}
