//! The linear classifier that evals show beside a model, and the wide path that it can be of one.

use serde_json::Value;

use crate::common::{Space, TINY, tiny};

/// What became of the stages that the recipe doesn't write.
fn supplement(result: &Value) -> (&str, &str) {
    let stage = &result["stages"]["topics.linear"];
    (stage["status"].as_str().expect("a status"), stage["key"].as_str().expect("a key"))
}

/// The tiny recipe with a wide path.
fn wide() -> Space {
    let space = tiny();
    space.write("recipe.yaml", TINY.replace("      task:\n", "      wide: {}\n      task:\n"));
    space
}

#[test]
fn the_baseline_is_computed_once_for_all_models_of_its_rows() {
    let space = tiny();
    let first = space.json(&["run", "recipe.yaml"]);
    let (status, key) = supplement(&first);
    assert_eq!(status, "ran");
    let metrics = &first["stages"]["test"]["metrics"];
    for metric in ["linear_accuracy", "linear_macro_f1", "linear_accuracy_without_leaks"] {
        assert!(metrics[metric].is_number(), "{metric} in {metrics}");
    }
    // Neither how the model is trained nor how it's asked is anything to it.
    for set in [
        "stages.topics.train.lr=2.0e-3",
        "stages.topics.task.classification.template={{ text }}：[Classification]。",
        "stages.topics.task.classification.words={甲: 运动, 乙: 吃}",
        "stages.base.train.steps=4",
    ] {
        let again = space.json(&["run", "recipe.yaml", "--set", set]);
        assert_eq!(supplement(&again), ("hit", key), "{set}");
        assert_eq!(again["stages"]["test"]["status"], "ran", "{set}");
    }
    // The rows are.
    for set in ["stages.topics.data.train.limit=4", "stages.topics.data.dev.limit=1"] {
        let again = space.json(&["run", "recipe.yaml", "--set", set, "--stage", "topics.linear"]);
        assert_eq!(supplement(&again).0, "ran", "{set}");
    }
    let output = space.pipe(&["gc", "recipe.yaml", "--grace", "0s", "--delete"]);
    assert_eq!(output.status, 0, "{}", output.stderr);
    let kept = space.json(&["run", "recipe.yaml"]);
    assert_eq!(supplement(&kept), ("hit", key), "what the recipe reaches stays");
    let output = space.pipe(&["why", "recipe.yaml", "topics.linear", "--set", "stages.topics.data.train.limit=4"]);
    assert!(output.stdout.contains("limit"), "{}", output.stdout);
}

#[test]
fn a_stage_of_the_recipe_can_be_the_baseline() {
    let space = tiny();
    let own = "  ngrams:\n    linear: { data: { train: { path: train.tsv } }, columns: [text], labels: [甲, 乙] }\n";
    let evaluated = "model: topics, baseline: ngrams, data";
    space.write("recipe.yaml", TINY.replace("model: topics, data", evaluated) + own);
    let result = space.json(&["run", "recipe.yaml"]);
    assert!(result["stages"]["topics.linear"].is_null() && result["stages"]["ngrams"]["status"] == "ran");
    assert!(result["stages"]["test"]["metrics"]["linear_accuracy"].is_number());
    let wrong = own.replace("columns: [text]", "columns: [texts]");
    space.write("recipe.yaml", TINY.to_owned() + &wrong);
    let output = space.pipe(&["check", "recipe.yaml"]);
    assert_eq!(output.status, 2);
    assert!(output.stderr.contains("`train.tsv` has no column `texts`"), "{}", output.stderr);
}

#[test]
fn a_wide_path_is_a_part_of_the_model() {
    let space = wide();
    let result = space.json(&["run", "recipe.yaml"]);
    let model = space.path().join(result["stages"]["topics"]["path"].as_str().expect("a path"));
    assert!(model.join("wide/linear.safetensors").is_file() && model.join("wide/mix.json").is_file());
    assert_eq!(supplement(&result).0, "ran", "for both the model and its eval");
    assert!(result["stages"]["topics"]["metrics"]["wide_dev_accuracy"].is_number());
    let metrics = &result["stages"]["test"]["metrics"];
    assert!(metrics["accuracy_without_wide"].is_number(), "{metrics}");

    // Both say the same of the rows.
    let output = space.pipe(&["predict", "recipe.yaml", "topics", "--file", "test.tsv", "--json"]);
    assert_eq!(output.status, 0, "{}", output.stderr);
    let said: Vec<Value> = output.stdout.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
    let gold = ["甲", "乙"].repeat(3);
    let loss: f64 =
        said.iter().zip(gold).map(|(row, label)| -row["probabilities"][label].as_f64().expect("a number").ln()).sum();
    let expected = metrics["log_loss"].as_f64().expect("a number");
    assert!((loss / said.len() as f64 - expected).abs() < 1e-5, "{loss} {expected}");

    // Without it the network alone says otherwise, and the model before it is the same.
    space.write("narrow.yaml", TINY);
    let narrow = space.json(&["run", "narrow.yaml"]);
    assert_eq!((&narrow["stages"]["base"]["status"], supplement(&narrow).0), (&"hit".into(), "hit"));
    assert_eq!(narrow["stages"]["topics"]["status"], "ran");
    assert_eq!(narrow["stages"]["test"]["metrics"]["accuracy"], metrics["accuracy_without_wide"]);
    assert_ne!(narrow["stages"]["test"]["metrics"]["log_loss"], metrics["log_loss"]);
}

#[test]
fn a_wide_path_is_not_exported_and_a_note_says_so() {
    let space = wide();
    let text =
        TINY.replace("      task:\n", "      wide: {}\n      task:\n") + "  out: { export: { model: topics } }\n";
    space.write("recipe.yaml", text);
    let stage = space.pipe(&["run", "recipe.yaml"]);
    let command = space.pipe(&["export", "recipe.yaml", "topics", "model"]);
    for output in [stage, command] {
        assert_eq!(output.status, 0, "{}", output.stderr);
        assert!(output.stderr.contains("what is written is the network alone"), "{}", output.stderr);
    }
    assert!(space.path().join("model/model.safetensors").is_file() && !space.path().join("model/wide").exists());
}
