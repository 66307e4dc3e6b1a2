//! The recipes that are run on each device, and their curves.

use serde_json::Value;

use crate::common::Space;

/// Every objective and both heads, each ten steps with dropout, with one family.
pub(super) const RECIPE: &str = r#"
seed: 3
stages:
  tokens:
    tokenize:
      tokenizer: { wordpiece: { vocab_size: 200 } }
      corpus: [{ path: corpus.txt }]
  judge:
    pretrain: { tokens: tokens, model: MODEL, train: TRAIN, objectives: [{ masked_lm: {}, sentence_order: {} }] }
  writer:
    pretrain:
      tokens: tokens
      model: MODEL
      objectives:
        - { generative: { blank_infilling: {} } }
        - { generative: { prefix_lm: {} } }
        - { generative: { causal_lm: {} } }
      train: TRAIN
  follows:
    pretrain: { tokens: tokens, model: MODEL, train: TRAIN, objectives: [{ masked_lm: {}, next_sentence: {} }] }
  prompt:
    finetune: { from: writer, data: DATA, task: { classification: { TASK } }, train: TRAIN }
  linear:
    finetune: { from: judge, data: DATA, task: { classification: { TASK, head: linear } }, train: TRAIN }
  test:
    eval: { model: prompt, data: { path: test.tsv } }
"#;

const PARTS: [(&str, &str); 4] = [
    ("MODEL", "{ glm: { hidden: 16, layers: 1, heads: 2, max_length: 32 } }"),
    ("TRAIN", "{ steps: 10, batch: { examples: 4 }, max_length: 32, lr: 1.0e-3, dropout: 0.1 }"),
    ("DATA", "{ train: { path: train.tsv } }"),
    ("TASK", "template: '{{ text }}，这是[Classification]。', words: { 甲: 体育, 乙: 美食 }"),
];

/// The other families, each with an objective of its own.
pub(super) const FAMILIES: [(&str, &str); 6] = [
    ("bert", "masked_lm: {}, next_sentence: {}"),
    ("gpt2", "generative: { causal_lm: {} }"),
    ("chatglm", "generative: { blank_infilling: {} }"),
    ("chatglm2", "generative: { causal_lm: {} }"),
    ("glm4", "generative: { causal_lm: {} }"),
    ("transformer", "generative: { prefix_lm: {} }"),
];

/// A recipe's text with its parts filled in.
pub(super) fn filled(recipe: &str) -> String {
    PARTS.iter().fold(recipe.to_owned(), |recipe, (name, text)| recipe.replace(name, text))
}

/// A recipe that pretrains models of these families.
pub(super) fn pretrained(families: &[(&str, &str)], layers: usize) -> String {
    let mut recipe = RECIPE[..RECIPE.find("  judge:").expect("the first model")].to_owned();
    for (family, objective) in families {
        let model = format!("{{ {family}: {{ hidden: 16, layers: {layers}, heads: 2, max_length: 48 }} }}");
        recipe += &format!(
            "  {family}:\n    pretrain: {{ tokens: tokens, model: {model}, train: TRAIN, objectives: [{{ {objective} }}] }}\n"
        );
    }
    filled(&recipe)
}

/// The losses of all trainings on a device are the CPU's, in each of so many steps.
pub(super) fn assert_losses_of_the_cpu(space: &Space, device: &str, steps: usize) {
    let [found, expected] = [device, "cpu"].map(|device| curves(space, device));
    assert_eq!(found.len(), expected.len());
    for ((name, found), (_, expected)) in found.iter().zip(&expected) {
        assert_eq!(found.len(), steps, "{name}");
        for (step, ([found, _], [expected, _])) in (1..).zip(found.iter().zip(expected)) {
            assert!((found - expected).abs() < 1e-3, "{name}, step {step}: {found} instead of {expected}");
        }
    }
}

/// The record of a stage that was run on a device, and is a hit by now.
pub(super) fn record(space: &Space, device: &str, stage: &str) -> Value {
    let result = space.json(&["run", "recipe.yaml", "--device", device, "--store", device]);
    let place = result["stages"][stage]["path"].as_str().expect("a path");
    serde_json::from_str(&space.read(&format!("{place}/artifact.json"))).expect("a record")
}

/// What a record says that its stage was computed on.
pub(super) fn computed_on(record: &Value) -> &str {
    record["provenance"]["device"].as_str().expect("a device")
}

/// Loss and gradient norm of each step of each stage that trains, by the stage's name.
pub(super) fn curves(space: &Space, device: &str) -> Vec<(String, Vec<[f64; 2]>)> {
    // In one process, which opens the device once.
    let run = ["run", "recipe.yaml", "--device", device, "--store", device, "--launcher", "local"];
    let result = space.json(&run);
    let stages = result["stages"].as_object().expect("stages");
    let curve = |path: &str| -> Option<Vec<[f64; 2]>> {
        let text = std::fs::read_to_string(space.path().join(path).join("curve.jsonl")).ok()?;
        let lines = text.lines().map(|line| serde_json::from_str::<Value>(line).expect("json"));
        Some(lines.map(|line| ["loss", "grad_norm"].map(|name| line[name].as_f64().expect("a number"))).collect())
    };
    stages.iter().filter_map(|(name, stage)| Some((name.clone(), curve(stage["path"].as_str()?)?))).collect()
}
