//! The recipes that begin with a checkpoint run with a tiny one in the place of the large one.

use crate::common;
use std::path::Path;

use common::{Space, tiny};

/// Exports a tiny GLM whose tokenizer spells every text in bytes.
const MODEL: &str = "\
stages:
  tokens:
    tokenize: { tokenizer: { bpe: { vocab_size: 300 } }, corpus: [{ path: corpus.txt }] }
  base:
    pretrain:
      tokens: tokens
      model: { glm: { hidden: 16, layers: 1, heads: 2, max_length: 192 } }
      objectives: [{ generative: { blank_infilling: {} } }]
      train: { steps: 2, batch: { examples: 4 }, max_length: 48, lr: 1.0e-3 }
";

/// A space with a checkpoint in `model`.
fn space() -> Space {
    let space = tiny();
    space.write("model.yaml", MODEL);
    space.make_checkpoint("model.yaml", "base");
    space
}

/// Runs a recipe with a few rows of the data that come with the project.
fn statuses(space: &Space, recipe: &str, flags: &[&str]) -> String {
    let recipe = Path::new(env!("CARGO_MANIFEST_DIR")).join("recipes").join(recipe);
    let recipe = recipe.to_string_lossy();
    let sets = ["topics.data.train", "topics.data.dev", "test.data"].map(|data| format!("stages.{data}.limit=16"));
    let mut arguments = vec![&*recipe, "--var", "checkpoint=model", "--var", "max_length=192"];
    for set in &sets {
        arguments.extend(["--set", set]);
    }
    space.statuses(&[&arguments, flags].concat())
}

#[test]
fn chatglm_6b_cls_runs_with_a_tiny_checkpoint_in_full_and_with_lora() {
    let space = space();
    assert_eq!(statuses(&space, "chatglm_6b_cls.yaml", &[]), "model=ran test=ran topics=ran");
    let lora = "stages.topics.adapter={lora: {r: 8, alpha: 32, targets: [query_key_value]}}";
    assert_eq!(statuses(&space, "chatglm_6b_cls.yaml", &["--set", lora]), "model=ran test=ran topics=ran");
}

#[test]
fn checkpoint_lora_runs_from_import_to_export() {
    let space = space();
    assert_eq!(statuses(&space, "checkpoint_lora.yaml", &[]), "base=ran merged=ran test=ran topics=ran");
}

#[test]
fn chatglm_6b_ptuning_runs_with_a_tiny_checkpoint() {
    let space = space();
    let recipe = Path::new(env!("CARGO_MANIFEST_DIR")).join("recipes/chatglm_6b_ptuning.yaml");
    let small = ["checkpoint=model", "max_length=48", "steps=2"].map(|var| ["--var", var]).concat();
    let sets = ["writer.data.train", "test.data"].map(|data| format!("stages.{data}.limit=4"));
    let sets: Vec<&str> = sets.iter().flat_map(|set| ["--set", set]).collect();
    assert_eq!(space.statuses(&[&[&*recipe.to_string_lossy()], &small[..], &sets].concat()), "test=ran writer=ran");
}

#[test]
fn exports_in_fewer_bits_write_what_the_model_held_so_would() {
    let space = space();
    let recipe = "\
stages:
  small:
    export: { model: { checkpoint: model }, weights: int8 }
";
    space.write("export.yaml", recipe);
    assert_eq!(space.statuses(&["export.yaml"]), "small=ran");
    assert_eq!(space.pipe(&["export", "export.yaml", "small", "copied"]).status, 0);
    // The same by the command, of a model that was trained here.
    let exported = space.pipe(&["export", "model.yaml", "base", "rounded", "--weights", "int8", "--store", "other"]);
    assert_eq!(exported.status, 0, "{}", exported.stderr);
    assert!(!exported.stderr.contains("f32"), "{}", exported.stderr);
    let written = |checkpoint: &str, weights: &str| {
        let settings = ["--prompt", "比赛", "--temperature", "0", "--max-tokens", "8", "--json"];
        let output =
            space.pipe(&[&["generate", "--checkpoint", checkpoint, "--weights", weights], &settings[..]].concat());
        assert_eq!(output.status, 0, "{}", output.stderr);
        let answer: serde_json::Value = serde_json::from_str(&output.stdout).unwrap();
        answer["text"].clone()
    };
    let expected = written("model", "int8");
    for checkpoint in ["copied", "rounded"] {
        let size = |file: &str| std::fs::metadata(space.path().join(checkpoint).join(file)).unwrap().len();
        let whole = std::fs::metadata(space.path().join("model/model.safetensors")).unwrap().len();
        assert!(size("model.safetensors") < whole / 2, "{checkpoint}");
        assert_eq!(written(checkpoint, "auto"), expected, "{checkpoint}");
    }
    let both = space.pipe(&["check", "export.yaml", "--set", "stages.small.dtype=f16"]);
    assert_ne!(both.status, 0);
    assert!(both.stderr.contains("`weights` says what the weights are stored as"), "{}", both.stderr);
}
