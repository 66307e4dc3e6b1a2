//! Adapters as files: what is exported opens in PEFT, and an adapter alone finds its model and tokenizer.

use crate::common::{self, Space, need, needs::Need, tiny};
use std::{path::Path, process::Command};

use serde_json::{Value, json};

const RECIPE: &str = r#"
seed: 3
stages:
  tokens:
    tokenize:
      tokenizer: { wordpiece: { vocab_size: 300 } }
      corpus: [{ path: corpus.txt }]
  base:
    pretrain:
      tokens: tokens
      model: { gpt2: { hidden: 32, layers: 2, heads: 4, max_length: 64, initializer_range: 0.2 } }
      objectives: [{ generative: { causal_lm: {} } }]
      train: { steps: 8, batch: { examples: 4 }, max_length: 48, lr: 1.0e-2 }
  lora:
    pretrain:
      from: base
      tokens: tokens
      adapter: { lora: { r: 4, alpha: 8, targets: [c_attn] } }
      objectives: [{ generative: { causal_lm: {} } }]
      train: { steps: 8, batch: { examples: 4 }, max_length: 48, lr: 1.0e-1 }
  prefix:
    pretrain:
      from: base
      tokens: tokens
      adapter: { p_tuning: { tokens: 4 } }
      objectives: [{ generative: { causal_lm: {} } }]
      train: { steps: 8, batch: { examples: 4 }, max_length: 48, lr: 1.0e-1 }
  out:
    export: { model: prefix }
"#;

/// A space with models that have been exported to folders of the stages' names.
fn exported() -> Space {
    let space = tiny();
    space.write("recipe.yaml", RECIPE);
    assert_eq!(space.pipe(&["run", "recipe.yaml"]).status, 0);
    for stage in ["lora", "prefix", "out"] {
        let output = space.pipe(&["export", "recipe.yaml", stage, stage]);
        assert_eq!(output.status, 0, "{}", output.stderr);
    }
    space
}

fn text(space: &Space, model: &[&str]) -> String {
    let options = ["--prompt", "球队", "--max-tokens", "12", "--temperature", "0"];
    space.json(&[&["generate"], model, &options].concat())["text"].as_str().expect("a text").to_owned()
}

fn config(folder: &Path) -> Value {
    serde_json::from_slice(&std::fs::read(folder.join("adapter_config.json")).expect("a file")).expect("JSON")
}

#[test]
fn an_exported_adapter_says_where_its_model_lies_and_is_found_after_a_move() {
    let space = exported();
    for stage in ["lora", "prefix", "out"] {
        let expected = text(&space, &["recipe.yaml", if stage == "out" { "prefix" } else { stage }]);
        let folder = space.path().join(stage);
        let place = folder.canonicalize().expect("a folder");
        assert_eq!(config(&folder.join("adapter"))["base_model_name_or_path"], json!(place), "{stage}");
        assert!(!folder.join("adapter_config.json").exists(), "transformers would take it for a part of the model");
        for model in [stage.to_owned(), format!("{stage}/adapter")] {
            assert_eq!(text(&space, &["--checkpoint", &model]), expected, "{model}");
        }
        std::fs::rename(&folder, space.path().join("moved")).expect("a moved folder");
        assert_eq!(text(&space, &["--checkpoint", "moved/adapter"]), expected, "{stage}");
        std::fs::rename(space.path().join("moved"), &folder).expect("a moved folder");
    }
}

#[test]
fn a_conversation_is_kept_in_half_the_memory_where_that_is_asked_for() {
    let space = exported();
    let write = |form: &str, stage: &str| {
        let options = ["--prompt", "球队", "--max-tokens", "12", "--min-tokens", "12", "--kv-cache", form, "--json"];
        space.pipe(
            &[&["generate", "recipe.yaml", stage, "--device", "cpu", "--temperature", "0"], &options[..]].concat(),
        )
    };
    for stage in ["base", "lora", "prefix"] {
        let output = write("bf16", stage);
        assert_eq!(output.status, 0, "{stage}: {}", output.stderr);
        let answer: Value = serde_json::from_str(&output.stdout).expect("JSON");
        assert_eq!(answer["tokens"], 12, "{stage}: {answer}");
        // The first token follows a prompt of a few, whose keys are hardly rounded.
        let plain: Value = serde_json::from_str(&write("f32", stage).stdout).expect("JSON");
        let first = |answer: &Value| answer["text"].as_str().expect("a text").chars().next();
        assert_eq!(first(&answer), first(&plain), "{stage}: {answer}, {plain}");
    }
    let refused = write("int8", "base");
    assert_eq!(refused.status, 2, "{}", refused.stderr);
    assert!(refused.stderr.contains("expected f32 or bf16"), "{}", refused.stderr);
}

#[test]
fn activations_of_eight_bits_are_for_weights_of_four() {
    let space = exported();
    let write = |weights: &str, activations: &str| {
        let options = ["--prompt", "球队", "--max-tokens", "12", "--min-tokens", "12", "--temperature", "0", "--json"];
        let forms = ["--weights", weights, "--activations", activations];
        space.pipe(&[&["generate", "recipe.yaml", "base", "--device", "cpu"], &options[..], &forms].concat())
    };
    let [coarse, plain] = ["int8", "f32"].map(|activations| {
        let output = write("int4", activations);
        assert_eq!(output.status, 0, "{}", output.stderr);
        serde_json::from_str::<Value>(&output.stdout).expect("JSON")
    });
    assert_eq!(coarse["tokens"], 12, "{coarse}");
    // The first token follows from the prompt, whose activations are hardly rounded.
    let first = |answer: &Value| answer["text"].as_str().expect("a text").chars().next();
    assert_eq!(first(&coarse), first(&plain), "{coarse}, {plain}");
    for (weights, activations, message) in [
        ("int8", "int8", "activations in int8 are for weights in int4, and none are held so"),
        ("int4", "int4", "expected f32 or int8"),
    ] {
        let refused = write(weights, activations);
        assert_eq!(refused.status, 2, "{}", refused.stderr);
        assert!(refused.stderr.contains(message), "{}", refused.stderr);
    }
}

#[test]
fn an_adapter_alone_finds_its_model_as_peft_does_from_the_working_directory() {
    let space = exported();
    let expected = text(&space, &["recipe.yaml", "lora"]);
    let [from, to] = ["lora/adapter", "trained/elsewhere"].map(|folder| space.path().join(folder));
    std::fs::create_dir_all(to.parent().expect("a folder")).expect("a folder");
    std::fs::rename(from, &to).expect("a moved folder");
    let mut settings = config(&to);
    settings["base_model_name_or_path"] = "lora".into();
    std::fs::write(to.join("adapter_config.json"), settings.to_string()).expect("a written file");
    assert_eq!(text(&space, &["--checkpoint", "trained/elsewhere"]), expected);
    // A name without `./` could be a model's on a hub.
    settings["base_model_name_or_path"] = "./nowhere".into();
    std::fs::write(to.join("adapter_config.json"), settings.to_string()).expect("a written file");
    let output = space.pipe(&["generate", "--checkpoint", "trained/elsewhere", "--prompt", "球队"]);
    assert_eq!(output.status, 2);
    assert!(output.stderr.contains("its base_model_name_or_path names no directory with a model"), "{}", output.stderr);
}

#[test]
fn exported_adapters_open_in_peft_by_themselves() {
    let python = need!(Need::Transformers.variable("PIPE_PYTHON"));
    let space = exported();
    let ids = json!({ "input_ids": [5, 17, 33, 8, 21] });
    space.write("input.json", ids.to_string());
    for stage in ["lora", "prefix"] {
        let mut command = Command::new(&python);
        command.arg(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/network/adapters.py"));
        command.args(["auto", &format!("{stage}/adapter"), "input.json"]);
        command.current_dir(space.path()).env("HF_HUB_OFFLINE", "1");
        let output = common::finish(command);
        assert_eq!(output.status, 0, "{}", output.stderr);
        let found: Vec<Vec<f32>> = serde_json::from_str(output.stdout.trim()).expect("logits");
        let network = pipe::network::model::Network::load(&space.path().join(stage), &burn::tensor::Device::flex());
        let batch = pipe::network::batch::Batch {
            rows: 1,
            width: 5,
            tokens: vec![5, 17, 33, 8, 21],
            positions: (0..5).collect(),
            block_positions: vec![0; 5],
            span_starts: vec![0; 5],
            span_ends: (1..=5).collect(),
            dropout_keys: vec![0; 5],
            ..Default::default()
        };
        let own = network.expect("a model").logits_at(&batch, &[0, 1, 2, 3, 4]).expect("logits");
        let worst = common::parity::furthest(&own.concat(), &found.concat());
        assert!(worst < 1e-4, "{stage}: {worst}");
    }
}

#[test]
fn a_prefix_and_its_sequences_have_to_fit_the_positions() {
    let space = tiny();
    space.write("recipe.yaml", RECIPE.replace("tokens: 4 }", "tokens: 20 }"));
    let output = space.pipe(&["check", "recipe.yaml"]);
    assert_eq!(output.status, 2);
    let message = "sequences of 48 tokens are longer than the model of `base` can take behind a prefix of 20, 44";
    assert!(output.stderr.contains(message), "{}", output.stderr);
    // Rotary positions have no end.
    let rotary =
        RECIPE.replace("tokens: 4 }", "tokens: 20 }").replace("{ gpt2:", "{ chatglm2:").replace("c_attn", "dense");
    space.write("recipe.yaml", rotary);
    let output = space.pipe(&["check", "recipe.yaml"]);
    assert_eq!(output.status, 0, "{}", output.stderr);
}
