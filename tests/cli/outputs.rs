//! Models that tell several labels of a row, or a number.

use std::fmt::Write;

use serde_json::Value;

use crate::common::Space;

const RECIPE: &str = r#"
seed: 3
stages:
  tokens:
    tokenize:
      tokenizer: { wordpiece: { vocab_size: 300 } }
      corpus: [{ path: rows.jsonl, text: [text] }]
  told:
    finetune:
      tokens: tokens
      model: { MODEL }
      data: { train: { path: rows.jsonl }, dev: { path: rows.jsonl, limit: 40 } }
      task: TASK
      train: { epochs: 30, batch: { examples: 8 }, max_length: 32, lr: 5.0e-3, dropout: 0, keep_best: BEST }
  test:
    eval: { model: told, data: { path: held.jsonl } }
  out:
    export: { model: told }
"#;

const GLM: &str = "glm: { hidden: 32, layers: 1, heads: 2, max_length: 32 }";
const BERT: &str = "bert: { hidden: 32, layers: 1, heads: 2, max_length: 32 }";

/// Of the words that a row has each is a label, and tells what the row is worth.
const WORDS: [(&str, &str, f64); 3] = [("面条", "food", 1.0), ("足球", "sport", 2.0), ("股票", "money", -1.5)];

/// Rows with all choices of these words, each several times.
fn rows(times: std::ops::Range<usize>) -> String {
    let mut lines = String::new();
    for time in times {
        for choice in 0..8 {
            let chosen = WORDS.iter().enumerate().filter(|(bit, _)| choice >> bit & 1 == 1).map(|(_, word)| word);
            let chosen: Vec<_> = chosen.collect();
            let text: String = chosen.iter().map(|(word, ..)| *word).collect();
            let labels: Vec<&str> = chosen.iter().map(|(_, label, _)| *label).collect();
            let worth: f64 = chosen.iter().map(|(.., worth)| worth).sum();
            let row = serde_json::json!({ "text": format!("{text}第{time}天"), "labels": labels, "worth": worth });
            writeln!(lines, "{row}").expect("a string");
        }
    }
    lines
}

fn space(model: &str, task: &str, best: &str) -> Space {
    let space = Space::new();
    let recipe = RECIPE.replace("MODEL", model).replace("TASK", task).replace("BEST", best);
    space.write("recipe.yaml", recipe).write("rows.jsonl", rows(0..10)).write("held.jsonl", rows(10..14));
    space
}

fn predicted(space: &Space) -> Vec<Value> {
    let output = space.pipe(&["predict", "recipe.yaml", "told", "--file", "held.jsonl", "--json"]);
    assert_eq!(output.status, 0, "{}", output.stderr);
    output.stdout.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect()
}

fn exported(space: &Space, result: &Value) -> Value {
    let model = space.path().join(result["stages"]["out"]["path"].as_str().expect("a path"));
    serde_json::from_slice(&std::fs::read(model.join("config.json")).expect("a config")).expect("JSON")
}

#[test]
fn several_labels_are_told() {
    let task = r#"{ multi_label: { names: [sport, food, money], template: "{{ text }}" } }"#;
    let space = space(GLM, task, "micro_f1");
    let result = space.json(&["run", "recipe.yaml"]);
    let metrics = &result["stages"]["test"]["metrics"];
    assert!(metrics["micro_f1"].as_f64().expect("a figure") > 0.9, "{metrics}");
    assert_eq!((&metrics["rows"], &metrics["leaked_rows"]), (&32.into(), &0.into()));
    let trained = &result["stages"]["told"]["metrics"];
    let threshold = trained["threshold"].as_f64().expect("a threshold");
    assert!(trained["dev_micro_f1"].is_number() && trained["dev_macro_f1"].is_number(), "{trained}");

    let said = predicted(&space);
    let rows: Vec<Value> = space.read("held.jsonl").lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let (mut both, mut all) = (0, 0);
    for (said, row) in said.iter().zip(&rows) {
        let labels = said["labels"].as_array().expect("labels");
        for (name, probability) in said["probabilities"].as_object().expect("probabilities") {
            let given = labels.contains(&name.as_str().into());
            assert_eq!(given, probability.as_f64().expect("a number") >= threshold);
        }
        let there = row["labels"].as_array().expect("labels");
        both += labels.iter().filter(|label| there.contains(label)).count();
        all += labels.len() + there.len();
    }
    let micro = 2.0 * both as f64 / all as f64;
    assert!((micro - metrics["micro_f1"].as_f64().expect("a figure")).abs() < 1e-9);

    let shown = space.pipe(&["data", "recipe.yaml", "told", "-n", "1"]);
    assert_eq!(shown.status, 0, "{}", shown.stderr);
    assert!(shown.stdout.contains("label"), "{}", shown.stdout);
}

#[test]
fn numbers_are_told() {
    let task = r#"{ regression: { target: worth, template: "{{ text }}" } }"#;
    let space = space(GLM, task, "pearson");
    let result = space.json(&["run", "recipe.yaml"]);
    let metrics = &result["stages"]["test"]["metrics"];
    assert!(metrics["pearson"].as_f64().expect("a figure") > 0.9, "{metrics}");
    assert!(metrics["spearman"].is_number() && result["stages"]["told"]["metrics"]["dev_pearson"].is_number());
    let said = predicted(&space);
    let rows: Vec<Value> = space.read("held.jsonl").lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let number = |value: &Value| value.as_f64().expect("a number");
    let error: f64 =
        said.iter().zip(&rows).map(|(said, row)| (number(&said["number"]) - number(&row["worth"])).abs()).sum();
    assert!((error / rows.len() as f64 - number(&metrics["mean_absolute_error"])).abs() < 1e-6);
    // GLM has no class for sequence classification in transformers.
    assert!(exported(&space, &result)["problem_type"].is_null());
}

#[test]
fn exports_say_what_the_head_tells() {
    let multi = r#"{ multi_label: { names: [sport, food, money], template: "{{ text }}" } }"#;
    let number = r#"{ regression: { target: worth, template: "{{ text }}" } }"#;
    let short = ["run", "recipe.yaml", "--stage", "out", "--set", "stages.told.train.epochs=1"];
    for (task, best, problem, names) in [
        (
            multi,
            "micro_f1",
            "multi_label_classification",
            serde_json::json!({ "0": "food", "1": "money", "2": "sport" }),
        ),
        (number, "pearson", "regression", serde_json::json!({ "0": "worth" })),
    ] {
        let space = space(BERT, task, best);
        let config = exported(&space, &space.json(&short));
        assert_eq!((&config["problem_type"], &config["id2label"]), (&problem.into(), &names));
        assert_eq!(config["architectures"], serde_json::json!(["BertForSequenceClassification"]));
    }
}

#[test]
fn rows_that_say_nothing_are_found_before_anything_runs() {
    let multi = r#"{ multi_label: { names: [sport, food], template: "{{ text }}" } }"#;
    let regression = r#"{ regression: { target: text, template: "{{ text }}" } }"#;
    let missing = r#"{ regression: { target: price, template: "{{ text }}" } }"#;
    let cases = [
        (multi, "micro_f1", "the label `money` isn't one of `names`"),
        (regression, "pearson", "is no number"),
        (missing, "pearson", "no column `price` for the number"),
        (regression, "accuracy", "accuracy"),
    ];
    for (task, best, message) in cases {
        let output = space(GLM, task, best).pipe(&["check", "recipe.yaml"]);
        assert_eq!(output.status, 2, "{task}");
        assert!(output.stderr.contains(message), "{task}: {}", output.stderr);
    }
}
