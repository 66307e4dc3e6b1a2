//! Perplexity and bits per character of held-out text.

use crate::common;
use std::path::Path;

use common::{Space, finish, need, needs::Need, objectives, tiny};
use objectives::{SPECIALS, TEXT, corpus, documents, spec};
use pipe::{
    data,
    learning::{
        metrics::{LanguageReport, LanguageTally},
        objectives::{HeldOut, windows::slide},
    },
    network::batch::{Feed, Layout},
    spec::Objective,
};
use serde_json::{Value, json};

#[test]
fn windows_move_on_as_in_the_guide() {
    // The loop of Hugging Face's "Perplexity of fixed-length models": (begin_loc, end_loc, end_loc - begin_loc - trg_len).
    let windows = |lengths: &[&[usize]], room, stride| -> Vec<(u32, u32, usize)> {
        let slid = slide(&documents(lengths), room, stride).unwrap();
        slid.into_iter().map(|(window, context)| (window.start, window.end, context)).collect()
    };
    assert_eq!(windows(&[&[4, 6]], 4, 2), [(0, 4, 0), (2, 6, 2), (4, 8, 2), (6, 10, 2)]);
    assert_eq!(windows(&[&[10]], 4, 3), [(0, 4, 0), (3, 7, 1), (6, 10, 1)]);
    assert_eq!(windows(&[&[10]], 4, 1).len(), 7);
    assert_eq!(windows(&[&[9]], 4, 2), [(0, 4, 0), (2, 6, 2), (4, 8, 2), (6, 9, 2)]);
    assert_eq!(windows(&[&[3], &[], &[1, 1]], 4, 2), [(0, 3, 0), (0, 2, 0)]);
    // No further than a window holds, so that nothing is passed over.
    assert_eq!(windows(&[&[10]], 4, 9), [(0, 4, 0), (4, 8, 0), (8, 10, 0)]);
    assert_eq!(windows(&[&[2]], 4, 0), [(0, 2, 0)]);
}

#[test]
fn every_token_is_judged_once() {
    let documents = documents(&[&[9, 14], &[5], &[30]]);
    let corpus = corpus(&documents);
    let judged = |objective: Value, stride: Option<usize>| -> (bool, Vec<u32>) {
        let objective: Objective = spec(objective);
        let feed = match stride {
            Some(stride) => HeldOut::sliding(&objective, &corpus, 12, stride, 64, Layout::Ragged),
            None => HeldOut::new(&objective, &corpus, 12, 64, Layout::Ragged),
        };
        let feed = feed.unwrap();
        let steps = (0..feed.steps()).flat_map(|step| feed.step(step).unwrap().batches);
        let mut tokens: Vec<u32> = steps.flat_map(|batch| batch.targets).map(|target| target.token).collect();
        tokens.sort_unstable();
        (feed.overlaps(), tokens)
    };
    let mut expected: Vec<u32> = (TEXT..TEXT + 58).chain([SPECIALS.eop; 3]).collect();
    expected.sort_unstable();
    let causal = json!({ "generative": { "causal_lm": {} } });
    for stride in [1, 4, 5, 10, 99] {
        assert_eq!(judged(causal.clone(), Some(stride)), (true, expected.clone()), "stride {stride}");
    }
    assert_eq!(judged(causal, None), (false, expected));
    // What doesn't predict one token after the other has the windows of training.
    for other in [json!({ "masked_lm": {} }), json!({ "generative": { "prefix_lm": {} } })] {
        assert_eq!(judged(other.clone(), Some(4)), judged(other, None));
    }
}

#[test]
fn bits_per_character_are_of_the_text() {
    let tally = LanguageTally { nll: 12.0, tokens: 6, characters: 8, documents: 1, ..LanguageTally::default() };
    // Two nats a token; 12 / ln 2 / 8 bits a character.
    assert!((tally.bits_per_character().unwrap() - 2.164_042_561_333_444_5).abs() < 1e-12);
    assert_eq!(LanguageTally { characters: 0, ..tally }.bits_per_character(), None);
    let mut report = LanguageReport::default();
    report.add(&tally, false);
    report.add(&LanguageTally { nll: 4.0, characters: 8, ..tally }, true);
    let metrics = report.metrics();
    assert!((metrics["bits_per_character"].as_f64().unwrap() - 16.0 / 2_f64.ln() / 16.0).abs() < 1e-12);
    assert_eq!(metrics["bits_per_character_without_leaks"], json!(tally.bits_per_character()));
    // Elsewhere nothing is said of characters.
    let mut other = LanguageReport::default();
    other.add(&LanguageTally { characters: 0, ..tally }, false);
    assert!(!other.metrics().contains_key("bits_per_character"));
    assert!(!serde_json::to_string(&other).unwrap().contains("characters"));
}

/// A decoder that has learned a little, with held-out text in other documents.
fn evaluated(stride: &str) -> (Space, Value) {
    let space = tiny();
    let held_out =
        "球队昨天赢了。他在场上跑得很快，观众为进球欢呼，决赛明天下午开始。妈妈炒的菜最香！\n\n蛋糕刚刚出炉。\n";
    space.write("held_out.txt", held_out);
    space.write(
        "recipe.yaml",
        format!(
            "seed: 3
stages:
  tokens: {{ tokenize: {{ tokenizer: {{ bpe: {{ vocab_size: 300 }} }}, corpus: [{{ path: corpus.txt }}] }} }}
  held_out: {{ tokenize: {{ tokenizer: {{ stage: tokens }}, corpus: [{{ path: held_out.txt }}] }} }}
  base:
    pretrain:
      tokens: tokens
      model: {{ gpt2: {{ hidden: 32, layers: 2, heads: 4, max_length: 32, initializer_range: 0.2 }} }}
      objectives: [{{ generative: {{ causal_lm: {{}} }} }}]
      train: {{ steps: 8, batch: {{ examples: 4 }}, max_length: 32, lr: 1.0e-2 }}
  out: {{ export: {{ model: base }} }}
  test: {{ eval: {{ model: base, tokens: held_out{stride} }} }}
"
        ),
    );
    let result = space.json(&["run", "recipe.yaml", "--device", "cpu"]);
    (space, result)
}

/// What transformers makes of the held-out documents in the same windows.
fn expected(python: &std::ffi::OsStr, space: &Space, result: &Value, stride: usize) -> Value {
    let path = |stage: &str| space.path().join(result["stages"][stage]["path"].as_str().expect("a path"));
    let corpus = data::Corpus::load(&path("held_out")).unwrap();
    let tokenizer = data::text::Tokenizer::load(&path("base")).unwrap();
    let documents: Vec<Vec<u32>> = corpus.documents().map(|document| document.ids()).collect();
    let characters = space.read("held_out.txt").chars().filter(|character| *character != '\n').count();
    let given = json!({
        "documents": documents, "begin": tokenizer.special.cls, "end": tokenizer.special.eop,
        "room": 30, "stride": stride, "characters": characters,
    });
    space.write("given.json", given.to_string());
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/learning/perplexity.py");
    let mut command = std::process::Command::new(python);
    command.arg(script).arg(path("out")).arg(Path::new("given.json")).current_dir(space.path());
    let output = finish(command);
    assert_eq!(output.status, 0, "{}{}", output.stdout, output.stderr);
    serde_json::from_str(&output.stdout).unwrap()
}

#[test]
fn perplexity_with_a_stride_is_that_of_transformers() {
    let python = need!(Need::Transformers.variable("PIPE_PYTHON"));
    for (said, stride) in [("", 16), (", stride: 5", 5)] {
        let (space, result) = evaluated(said);
        let metrics = &result["stages"]["test"]["metrics"];
        let expected = expected(&python, &space, &result, stride);
        for name in ["tokens", "loss", "perplexity", "bits_per_character"] {
            let [found, expected] = [metrics, &expected].map(|of| of[name].as_f64().unwrap_or(f64::NAN));
            assert!((found / expected - 1.0).abs() < 1e-5, "{name} with stride {stride}: {found}, not {expected}");
        }
    }
}

#[test]
fn windows_without_a_stride_are_those_of_training() {
    let (_space, with) = evaluated("");
    let (space, without) = evaluated(", stride: 0");
    let metrics = |result: &Value| result["stages"]["test"]["metrics"].clone();
    let (with, before) = (metrics(&with), metrics(&without));
    assert_eq!(with["tokens"], before["tokens"]);
    assert_ne!(with["loss"], before["loss"]);
    assert!(with["bits_per_character"].as_f64().is_some_and(|bits| bits > 1.0), "{with}");
    assert!(before.get("bits_per_character").is_none(), "{before}");
    let key = without["stages"]["test"]["key"].as_str().expect("a key");
    assert_eq!(space.json(&["show", key])["manifest"]["version"], 2);
}

#[test]
fn a_stride_for_rows_is_refused() {
    let space = tiny();
    let recipe =
        space.read("recipe.yaml").replace("data: { path: test.tsv } }", "data: { path: test.tsv }, stride: 4 }");
    space.write("recipe.yaml", recipe);
    let output = space.pipe(&["check", "recipe.yaml"]);
    assert_ne!(output.status, 0);
    assert!(
        output.stderr.contains("`stride` is not used to measure the model of a finetune stage"),
        "{}",
        output.stderr
    );
}
