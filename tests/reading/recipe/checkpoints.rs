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
