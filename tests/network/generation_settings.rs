//! Texts with each setting of `generation_config.json` that is followed are transformers': greedy ones, those of beams, and
//! what is drawn from.

use crate::{
    common::{
        needs::{Need, need},
        parity,
    },
    generation_cache::reference_prompt,
};
use std::{path::Path, process::Command};

use anyhow::Result;
use burn::tensor::Device;
use pipe::{
    learning::generation::{
        GenerationDefaults, GenerationSettings, NextToken, Vocabulary, distribution, extend, search,
    },
    network::{
        batch::Example,
        model::{KvCache, Network},
    },
};
use serde_json::Value;

/// Logits as `formula` in `generation/reference.py` has them.
struct Formula;

impl NextToken for Formula {
    fn next_logits(&self, example: &Example, _cache: &mut KvCache) -> Result<Vec<f32>> {
        let mixed = example.tokens.iter().fold(17, |mixed: u64, &token| (mixed * 31 + u64::from(token) + 7) % 65521);
        let number = |id: u64| (mixed * (id + 3) * 7919 + id * 104_729) % 65521 % 997;
        Ok((0..13).map(|id| number(id) as f32 / 199.0 - 2.5).collect())
    }
}

fn ids(value: &Value) -> Vec<u32> {
    serde_json::from_value(value.clone()).expect("tokens")
}

/// The settings of a case, read as a checkpoint's.
fn settings(case: &Value) -> (GenerationSettings, Vocabulary) {
    let dir = tempfile::tempdir().expect("a folder");
    std::fs::write(dir.path().join("generation_config.json"), case["settings"].to_string()).expect("a file");
    let defaults = GenerationDefaults::read(dir.path()).expect("settings");
    assert!(defaults.ignored.is_empty(), "{case}");
    let vocabulary = Vocabulary { ends: defaults.ends.clone(), forbidden: Vec::new(), size: usize::MAX };
    (defaults.settings(0, 20), vocabulary)
}

/// Holds a model against a case.
fn check(model: &dyn NextToken, prompt: &Example, case: &Value) {
    let (settings, vocabulary) = settings(case);
    let mut cache = KvCache::default();
    if let Some(next) = case["next"].as_array() {
        let mut found = distribution(model, &mut cache, prompt, &vocabulary, &settings).unwrap();
        found.sort_unstable_by_key(|&(id, _)| id);
        assert_eq!(found.len(), next.len(), "{case}\n{found:?}");
        for ((id, probability), expected) in found.into_iter().zip(next) {
            assert_eq!(u64::from(id), expected[0], "{case}");
            assert!((probability - expected[1].as_f64().unwrap()).abs() < 2e-5, "{id}: {probability} in {case}");
        }
        return;
    }
    // Behind the token that ends a text are only those that fill up its row.
    let text = |ids: Vec<u32>| ids.into_iter().take_while(|id| !vocabulary.ends.contains(id)).collect::<Vec<_>>();
    let expected: Vec<_> = case["texts"].as_array().unwrap().iter().map(|text_ids| text(ids(text_ids))).collect();
    if settings.beams.num_beams == 1 {
        let (mut example, mut written) = (prompt.clone(), Vec::new());
        extend(model, &mut cache, &mut example, 1024, &vocabulary, &settings, &mut |token| {
            written.push(token);
            Ok(None)
        })
        .unwrap();
        assert_eq!([written], expected[..], "{case}");
        return;
    }
    let found = search(model, &mut cache, prompt, 1024, &vocabulary, &settings, &mut |_| Ok(None)).unwrap();
    let texts: Vec<_> = found.iter().map(|found| found.tokens.clone()).collect();
    assert_eq!(texts, expected, "{case}\n{found:?}");
    for (found, expected) in found.iter().zip(case["scores"].as_array().unwrap()) {
        let expected = expected.as_f64().unwrap();
        assert!((f64::from(found.score) - expected).abs() < 1e-4 * expected.abs().max(1.0), "{found:?} in {case}");
    }
}

#[test]
fn texts_of_a_formula_are_those_of_transformers() {
    let cases: Vec<Value> =
        include_str!("generation/formula.json").lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert!(cases.len() > 400, "{}", cases.len());
    for case in &cases {
        check(&Formula, &Example::sequence(0, ids(&case["prompt"]), 0), case);
    }
}

/// Runs the reference, and gives its cases.
fn reference(python: &std::ffi::OsStr, arguments: &[&std::ffi::OsStr]) -> Vec<Value> {
    let mut command = Command::new(python);
    command.arg(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/network/generation/reference.py")).args(arguments);
    let output = command.output().expect("a running Python");
    let told = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{told}");
    String::from_utf8(output.stdout).unwrap().lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

#[test]
fn texts_of_the_parity_fixtures_are_those_of_transformers() {
    let gpt2 = need!(parity::fixture("gpt2"));
    let python = need!(Need::Transformers.variable("PIPE_PYTHON"));
    let root = gpt2.parent().unwrap();
    let cases = reference(&python, &["fixtures".as_ref(), root.as_os_str()]);
    for family in ["gpt2", "glm", "glm4", "chatglm1", "chatglm2", "glm_original"] {
        let read = |name: &str| -> Value {
            serde_json::from_slice(&std::fs::read(root.join(family).join(name)).unwrap()).unwrap()
        };
        let (config, prompts) = (read("config.json"), read("generation.json"));
        let network = Network::load(&root.join(family), &Device::flex()).unwrap();
        let cases: Vec<_> = cases.iter().filter(|case| case["fixture"] == family).collect();
        assert!(cases.len() > 50, "{family}");
        for case in &cases {
            let prompt = &prompts[case["number"].as_u64().unwrap() as usize];
            check(&network, &reference_prompt(&config, prompt), case);
        }
        eprintln!("{family}: {} texts and distributions", cases.len());
    }
}

/// Marian's: what an encoder reads isn't a part of the text, so that lengths and repetitions count the target alone.
#[test]
fn texts_of_marian_are_those_of_transformers() {
    let python = need!(Need::Transformers.variable("PIPE_PYTHON"));
    let dir = tempfile::tempdir().unwrap();
    let model = make_marian(&python, dir.path());
    let network = Network::load(&model, &Device::flex()).unwrap();
    for case in reference(&python, &["marian".as_ref(), model.as_os_str()]) {
        let prompt = ids(&case["prompt"]);
        let length = prompt.len();
        check(&network, &Example::sequence(0, prompt, length), &case);
    }
}

fn make_marian(python: &std::ffi::OsStr, dir: &Path) -> std::path::PathBuf {
    let model = dir.join("marian");
    let mut command = Command::new(python);
    command.arg(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/network/marian.py")).arg("make").arg(&model);
    assert!(command.output().expect("a running Python").status.success());
    model
}
