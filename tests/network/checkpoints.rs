//! Checkpoints in recipes: taken in, trained from, given out, and known by what they hold.

use crate::common;
use std::{collections::BTreeMap, path::Path};

use common::{Space, tiny};
use safetensors::{Dtype, SafeTensors, tensor::TensorView};

/// Makes a checkpoint in `model`.
fn space() -> Space {
    let space = tiny();
    space.make_checkpoint("recipe.yaml", "base");
    space
}

fn export(space: &Space, arguments: &[&str]) {
    let output = space.pipe(&[&["export"], arguments].concat());
    assert_eq!(output.status, 0, "{}", output.stderr);
}

const ROUND_TRIP: &str = "\
vars: { checkpoint: model, size: 5GB, dtype: stored }
stages:
  in:
    import: { path: \"{{ checkpoint }}\" }
  out:
    export: { model: in, max_shard_size: \"{{ size }}\", dtype: \"{{ dtype }}\" }
";

/// All tensors of a directory: type, shape and bytes.
fn tensors(directory: &Path) -> BTreeMap<String, (Dtype, Vec<usize>, Vec<u8>)> {
    let mut all = BTreeMap::new();
    for file in files(directory).into_iter().filter(|name| name.ends_with(".safetensors")) {
        let bytes = std::fs::read(directory.join(file)).unwrap();
        for (name, view) in SafeTensors::deserialize(&bytes).unwrap().iter() {
            all.insert(name.to_owned(), (view.dtype(), view.shape().to_vec(), view.data().to_vec()));
        }
    }
    all
}

fn files(directory: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(directory).unwrap();
    let mut names: Vec<_> = entries.map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned()).collect();
    names.sort();
    names
}

fn round_trip(space: &Space, flags: &[&str], to: &str) {
    let output = space.pipe(&[&["run", "trip.yaml"], flags].concat());
    assert_eq!(output.status, 0, "{}", output.stderr);
    export(space, &[&["trip.yaml", "out", to], flags].concat());
}

#[test]
fn import_and_export_keep_every_byte() {
    let space = space();
    space.write("trip.yaml", ROUND_TRIP);
    round_trip(&space, &[], "again");
    let [model, again] = ["model", "again"].map(|name| space.path().join(name));
    let own = ["config.json", "generation_config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json"];
    assert_eq!(files(&model), own);
    assert_eq!(files(&model), files(&again));
    for name in files(&model) {
        assert!(std::fs::read(model.join(&name)).unwrap() == std::fs::read(again.join(&name)).unwrap(), "{name}");
    }
}

#[test]
fn shards_hold_the_same_tensors_and_are_read_again() {
    let space = space();
    space.write("trip.yaml", ROUND_TRIP);
    round_trip(&space, &["--var", "size=10KB"], "shards");
    let directory = space.path().join("shards");
    assert!(directory.join("model.safetensors.index.json").exists());
    let shards: Vec<_> = files(&directory).into_iter().filter(|name| name.ends_with(".safetensors")).collect();
    assert!(shards.len() > 2 && shards[0].starts_with("model-00001-of-0000"), "{shards:?}");
    // With up to 3 kB of header.
    assert!(shards.iter().all(|name| directory.join(name).metadata().unwrap().len() < 13_000));
    round_trip(&space, &["--var", "checkpoint=shards"], "whole");
    assert_eq!(tensors(&space.path().join("whole")), tensors(&space.path().join("model")));
    assert!(space.path().join("whole/model.safetensors").exists());
}

#[test]
fn half_precision_stays_as_it_is_and_can_be_asked_for() {
    let space = space();
    space.write("trip.yaml", ROUND_TRIP);
    for (dtype, stored, name) in [("bf16", Dtype::BF16, "bfloat16"), ("f16", Dtype::F16, "float16")] {
        let asked = format!("dtype={dtype}");
        round_trip(&space, &["--var", &asked], dtype);
        let halves = tensors(&space.path().join(dtype));
        assert!(halves.values().all(|(dtype, ..)| *dtype == stored));
        let config = space.read(&format!("{dtype}/config.json"));
        assert!(config.contains(&format!("dtype\": \"{name}\"")), "{config}");
        let again = format!("{dtype}_again");
        round_trip(&space, &["--var", &format!("checkpoint={dtype}")], &again);
        assert_eq!(tensors(&space.path().join(&again)), halves);
    }
    let whole = tensors(&space.path().join("model"));
    let half = tensors(&space.path().join("bf16"));
    for (name, (_, shape, bytes)) in &whole {
        let values: Vec<f32> = bytemuck::pod_collect_to_vec(bytes);
        let expected: Vec<u16> = values.iter().map(|&value| half::bf16::from_f32(value).to_bits()).collect();
        let (_, half_shape, half_bytes) = &half[name];
        assert_eq!((shape, &bytemuck::pod_collect_to_vec::<u8, u16>(half_bytes)), (half_shape, &expected), "{name}");
    }
}

const FINETUNE: &str = "\
vars: { checkpoint: model }
stages:
  topics:
    finetune:
      from: { checkpoint: \"{{ checkpoint }}\" }
      data: { train: { path: train.tsv } }
      task: { classification: { template: \"{{ text }}，这是[Classification]。\", words: { 甲: 体育, 乙: 美食 } } }
      train: { epochs: 1, batch: { examples: 4 }, max_length: 48, lr: 1.0e-3 }
  test:
    eval: { model: topics, data: { path: test.tsv } }
";

#[test]
fn a_checkpoint_is_known_by_what_it_holds_and_not_by_its_name() {
    let space = space();
    space.write("tune.yaml", FINETUNE);
    assert_eq!(space.statuses(&["tune.yaml"]), "test=ran topics=ran");
    std::fs::rename(space.path().join("model"), space.path().join("elsewhere")).unwrap();
    let elsewhere = ["tune.yaml", "--var", "checkpoint=elsewhere"];
    space.write("elsewhere/README.md", "about it").write("elsewhere/run.py", "raise SystemExit");
    assert_eq!(space.statuses(&elsewhere), "test=hit topics=hit");
    let weights = space.path().join("elsewhere/model.safetensors");
    let mut bytes = std::fs::read(&weights).unwrap();
    let last = bytes.len() - 1;
    bytes[last] ^= 1;
    std::fs::write(weights, bytes).unwrap();
    assert!(space.statuses(&elsewhere).ends_with("topics=ran"));
    let config = space.read("elsewhere/config.json").replacen('{', "{\"note\": 1,", 1);
    space.write("elsewhere/config.json", config);
    assert!(space.statuses(&elsewhere).ends_with("topics=ran"));
}

#[test]
fn training_goes_on_from_a_checkpoint_as_from_the_stage_that_made_it() {
    let space = space();
    let import = FINETUNE.replace("stages:\n", "stages:\n  in:\n    import: { path: model }\n");
    let import = import.replace("{ checkpoint: \"{{ checkpoint }}\" }", "in");
    space.write("tune.yaml", FINETUNE).write("import.yaml", import);
    let loss = |recipe: &str| {
        let result = space.json(&["run", recipe, "--set", "seed=3"]);
        result["stages"]["topics"]["metrics"]["loss"].as_f64().expect("a loss")
    };
    let whole = {
        let result = space.json(&["run", "recipe.yaml", "--stage", "topics", "--set", "stages.topics.train.epochs=1"]);
        result["stages"]["topics"]["metrics"]["loss"].as_f64().expect("a loss")
    };
    assert_eq!((loss("tune.yaml"), loss("import.yaml")), (whole, whole));
}

#[test]
fn an_imported_model_is_measured_as_what_its_family_learns() {
    let space = space();
    space.write(
        "measure.yaml",
        "\
stages:
  in:
    import: { path: model }
  held_out:
    tokenize: { tokenizer: { stage: in }, corpus: [{ path: corpus.txt }] }
  test:
    eval: { model: in, tokens: held_out }
  more:
    pretrain:
      from: { checkpoint: model }
      tokens: held_out
      objectives: [{ generative: { causal_lm: {} } }]
      train: { steps: 2, batch: { examples: 4 }, max_length: 48, lr: 1.0e-3 }
",
    );
    let result = space.json(&["run", "measure.yaml"]);
    let metrics = result["stages"]["test"]["metrics"].as_object().expect("metrics");
    assert!(metrics["perplexity"].as_f64().is_some_and(|value| value > 1.0), "{metrics:?}");
    assert!(metrics["masked_accuracy"].as_f64().is_some(), "{metrics:?}");
    assert_eq!(result["stages"]["more"]["status"], "ran");
}

#[test]
fn a_tokenizer_is_given_beside_a_checkpoint_that_has_none() {
    let space = space();
    std::fs::rename(space.path().join("model/tokenizer.json"), space.path().join("mine.json")).unwrap();
    let given = FINETUNE.replace("\"{{ checkpoint }}\" }", "\"{{ checkpoint }}\", tokenizer: mine.json }");
    space.write("tune.yaml", &given);
    assert_eq!(space.statuses(&["tune.yaml"]), "test=ran topics=ran");
    export(&space, &["tune.yaml", "topics", "tuned"]);
    assert_eq!(space.read("tuned/tokenizer.json"), space.read("mine.json"));
    space.write("mine.json", space.read("mine.json").replacen('{', "{ ", 1));
    assert!(space.statuses(&["tune.yaml"]).ends_with("topics=ran"));
}

#[test]
fn a_bare_encoder_gets_a_head_to_be_asked_by_prompt() {
    let space = tiny();
    let bert = common::TINY.replace("glm:", "bert:").replace(", { generative: { blank_infilling: {} } }", "");
    space.write("recipe.yaml", bert).write("tune.yaml", FINETUNE);
    space.make_checkpoint("recipe.yaml", "base");
    let file = space.path().join("model/model.safetensors");
    let bare = tensors(&space.path().join("model"));
    let views = bare.iter().filter_map(|(name, (dtype, shape, bytes))| {
        let name = name.strip_prefix("bert.")?;
        Some((name, TensorView::new(*dtype, shape.clone(), bytes).unwrap()))
    });
    std::fs::write(file, safetensors::serialize(views, None).unwrap()).unwrap();
    assert_eq!(space.statuses(&["tune.yaml"]), "test=ran topics=ran");
    export(&space, &["tune.yaml", "topics", "tuned"]);
    assert!(space.read("tuned/config.json").contains("BertForMaskedLM"));
}

#[test]
fn export_overwrites_nothing() {
    let space = space();
    let output = space.pipe(&["export", "recipe.yaml", "base", "model", "--store", "other"]);
    assert_eq!(output.status, 2);
    assert_eq!(output.stderr, "error: model/config.json already exists: name another directory, or remove it\n");
}

/// Replaces a value of a checkpoint's tensor.
fn put(space: &Space, tensor: &str, value: f32) {
    let file = space.path().join("model/model.safetensors");
    let mut all = tensors(&space.path().join("model"));
    let (_, _, bytes) = all.get_mut(tensor).expect("the tensor");
    bytes[..4].copy_from_slice(&value.to_le_bytes());
    let views =
        all.iter().map(|(name, (dtype, shape, bytes))| (name, TensorView::new(*dtype, shape.clone(), bytes).unwrap()));
    std::fs::write(file, safetensors::serialize(views, None).unwrap()).unwrap();
}

#[test]
fn values_that_a_type_cannot_hold_are_refused() {
    let space = space();
    space.write("trip.yaml", ROUND_TRIP);
    let run = |dtype: &str| space.pipe(&["run", "trip.yaml", "--var", &format!("dtype={dtype}")]);
    put(&space, "word_embeddings.weight", 1e5);
    let output = run("f16");
    assert_eq!(output.status, 1);
    let message = "word_embeddings.weight has the value 1e5, which f16 can't hold: it would become infinite";
    assert!(output.stderr.contains(message), "{}", output.stderr);
    assert!(output.stderr.contains("`dtype: bf16` holds it"), "{}", output.stderr);
    assert_eq!(run("bf16").status, 0);
    // Rounded to 16 bits it's past the largest number.
    put(&space, "word_embeddings.weight", f32::MAX);
    let output = run("bf16");
    assert!(output.stderr.contains("which bf16 can't hold"), "{}", output.stderr);
    // What is infinite already stays so.
    put(&space, "word_embeddings.weight", f32::INFINITY);
    assert_eq!(run("f16").status, 0);
}

#[test]
fn a_base_in_int8_is_given_out_as_the_numbers_that_it_stands_for() {
    let space = tiny();
    let lora = "from: base\n      adapter: { lora: { r: 2, targets: [query_key_value], base_dtype: int8 } }";
    space.write("recipe.yaml", common::TINY.replacen("from: base", lora, 1));
    space.make_checkpoint("recipe.yaml", "topics");
    export(&space, &["recipe.yaml", "base", "base", "--store", "other"]);
    assert_eq!(
        files(&space.path().join("model")),
        [
            "adapter",
            "config.json",
            "generation_config.json",
            "model.safetensors",
            "tokenizer.json",
            "tokenizer_config.json"
        ]
    );
    let (base, given) = (tensors(&space.path().join("base")), space.path().join("model/model.safetensors"));
    let given = std::fs::read(given).unwrap();
    let given = SafeTensors::deserialize(&given).unwrap();
    let mut names = given.names();
    names.sort_unstable();
    assert!(names.iter().eq(base.keys()), "{names:?}");
    let mut changed = 0;
    for (name, view) in given.iter() {
        let (dtype, shape, bytes) = &base[name];
        assert_eq!((view.dtype(), view.shape()), (*dtype, &shape[..]), "{name}");
        let values = |bytes: &[u8]| bytemuck::pod_collect_to_vec::<u8, f32>(bytes);
        let (exact, rounded) = (values(bytes), values(view.data()));
        changed += u32::from(exact != rounded);
        let furthest = exact.iter().zip(&rounded).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
        let largest = exact.iter().fold(0.0f32, |most, value| most.max(value.abs()));
        // Half of a step of 127.
        assert!(furthest <= largest / 254.0 + 1e-7, "{name}: {furthest} of {largest}");
    }
    // The weights of four linear layers.
    assert_eq!(changed, 4);
}

#[test]
fn an_export_says_what_the_stage_knows() {
    let space = tiny();
    let bert = common::TINY.replace("glm:", "bert:").replace(", { generative: { blank_infilling: {} } }", "");
    let linear = bert.replace("          template:", "          head: linear\n          template:");
    let linear = linear.replacen(
        "lr: 1.0e-3 }\n  test",
        "lr: 1.0e-3, dropout: 0.3 }\n  out: { export: { model: topics } }\n  test",
        1,
    );
    space.write("recipe.yaml", linear);
    let output = space.pipe(&["run", "recipe.yaml"]);
    assert_eq!(output.status, 0, "{}", output.stderr);
    for stage in ["topics", "out"] {
        export(&space, &["recipe.yaml", stage, stage]);
        let config: serde_json::Value = serde_json::from_str(&space.read(&format!("{stage}/config.json"))).unwrap();
        assert_eq!(config["architectures"], serde_json::json!(["BertForSequenceClassification"]));
        assert_eq!(config["id2label"], serde_json::json!({ "0": "乙", "1": "甲" }));
        assert_eq!(config["label2id"], serde_json::json!({ "乙": 0, "甲": 1 }));
        assert_eq!(config["hidden_dropout_prob"], 0.3);
        let names: Vec<String> = tensors(&space.path().join(stage)).into_keys().collect();
        let has = |name: &str| names.iter().any(|own| own == name);
        assert!(has("bert.pooler.dense.weight") && has("classifier.weight") && has("classifier.bias"), "{names:?}");
        assert!(names.iter().all(|name| !name.starts_with("cls.")), "{names:?}");
        let config = space.read(&format!("{stage}/tokenizer_config.json"));
        assert!(config.contains("\"tokenizer_class\": \"PreTrainedTokenizerFast\""), "{config}");
    }
    // Trained on from there it's what it is from the stage.
    let again = "\
stages:
  again:
    finetune:
      from: { checkpoint: topics }
      data: { train: { path: train.tsv } }
      task: { classification: { head: linear, template: \"{{ text }}\", words: { 甲: 体育, 乙: 美食 } } }
      train: { epochs: 1, batch: { examples: 4 }, max_length: 48, lr: 1.0e-3 }
";
    space.write("again.yaml", again);
    space.write(
        "own.yaml",
        again.replace("{ checkpoint: topics }", "in").replace("stages:", "stages:\n  in: { import: { path: topics } }"),
    );
    assert_eq!(space.statuses(&["again.yaml"]), "again=ran");
    assert_eq!(space.statuses(&["own.yaml"]), "again=ran in=ran");
}
