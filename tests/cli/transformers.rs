//! Models that `pipe` trained and exported open in transformers unchanged, and give the same logits there. `PIPE_PYTHON`
//! names a Python that has torch and transformers.

use crate::common;
use std::process::Command;

use burn::tensor::Device;
use common::{Space, need, needs::Need, tiny};
use pipe::network::{batch::Batch, model::Network};
use serde_json::json;

/// Trains a model for a few steps, exports it and hands it to transformers.
fn check(family: &str, objectives: &str, form: &str) {
    let python = need!(Need::Transformers.variable("PIPE_PYTHON"));
    let space = tiny();
    space.write("recipe.yaml", recipe(family, objectives, form));
    let output = space.pipe(&["run", "recipe.yaml"]);
    assert_eq!(output.status, 0, "{}", output.stderr);
    let output = space.pipe(&["export", "recipe.yaml", "out", "model"]);
    assert_eq!(output.status, 0, "{}", output.stderr);
    expect(&space, family == "gpt2");
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/cli/transformers/open_in_transformers.py");
    let mut command = Command::new(python);
    command.arg(script).arg("model").arg("expected.json").current_dir(space.path());
    let output = common::finish(command);
    assert_eq!(output.status, 0, "{}{}", output.stdout, output.stderr);
    eprintln!("{}", output.stdout.trim());
}

fn recipe(family: &str, objectives: &str, form: &str) -> String {
    format!(
        "seed: 3
stages:
  tokens:
    tokenize:
      tokenizer: {{ wordpiece: {{ vocab_size: 300 }} }}
      corpus: [{{ path: corpus.txt }}]
  base:
    pretrain:
      tokens: tokens
      model: {{ {family}: {{ hidden: 32, layers: 2, heads: 4, max_length: 64, initializer_range: 0.2 }} }}
      objectives: [{objectives}]
      train: {{ steps: 8, batch: {{ examples: 4 }}, max_length: 48, lr: 1.0e-2 }}
  out:
    export: {{ model: base{form} }}
"
    )
}

/// Writes what the exported model says of two rows of tokens.
fn expect(space: &Space, is_causal: bool) {
    let network = Network::load(&space.path().join("model"), &Device::flex()).expect("a model");
    let (rows, width) = (2, 12);
    let count = rows * width;
    let token = |at: usize| (at * 31 % network.vocabulary()) as u32;
    let row = |at: usize| (at / width * width) as u32;
    let end = |at: usize| if is_causal { at as u32 + 1 } else { row(at) + width as u32 };
    let batch = Batch {
        rows,
        width,
        tokens: (0..count).map(token).collect(),
        positions: (0..count).map(|at| (at % width) as u32).collect(),
        block_positions: vec![0; count],
        span_starts: (0..count).map(row).collect(),
        span_ends: (0..count).map(end).collect(),
        dropout_keys: vec![0; count],
        ..Batch::default()
    };
    let places: Vec<u32> = (0..count as u32).collect();
    let logits = network.logits_at(&batch, &places).expect("logits");
    let input_ids: Vec<_> = batch.tokens.chunks(width).collect();
    space.write("expected.json", json!({ "input_ids": input_ids, "logits": logits }).to_string());
}

#[test]
fn transformers_gives_the_logits_of_bert() {
    check("bert", "{ masked_lm: {}, next_sentence: {} }", "");
}

#[test]
fn transformers_gives_the_logits_of_bert_without_a_head_for_pairs() {
    check("bert", "{ masked_lm: {} }", "");
}

#[test]
fn transformers_gives_the_logits_of_gpt2_in_shards() {
    check("gpt2", "{ generative: { causal_lm: {} } }", ", max_shard_size: 50KB");
}
