//! `pipe predict` and `pipe generate`.

use crate::common;
use common::{Space, TINY, tiny};
use serde_json::Value;

fn ran() -> Space {
    let space = tiny();
    assert_eq!(space.pipe(&["run", "recipe.yaml", "--stage", "topics"]).status, 0);
    space
}

/// The lines of JSON, each with a probability for every label and the likeliest of them as its label.
fn predictions(space: &Space, arguments: &[&str]) -> Vec<Value> {
    let output = space.pipe(&[&["predict", "recipe.yaml", "topics", "--json"], arguments].concat());
    assert_eq!(output.status, 0, "{}", output.stderr);
    let lines: Vec<Value> = output.stdout.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
    for line in &lines {
        let probabilities = line["probabilities"].as_object().expect("probabilities");
        assert_eq!(probabilities.keys().collect::<Vec<_>>(), ["乙", "甲"]);
        let of = |label: &str| probabilities[label].as_f64().expect("a number");
        assert!((of("甲") + of("乙") - 1.0).abs() < 1e-6, "{line}");
        assert_eq!(line["label"], if of("甲") > of("乙") { "甲" } else { "乙" });
    }
    lines
}

fn texts(lines: &[Value]) -> Vec<&str> {
    lines.iter().map(|line| line["text"].as_str().expect("a text")).collect()
}

#[test]
fn texts_are_classified_in_their_order() {
    let space = ran();
    let lines = predictions(&space, &["--text", "球队赢了比赛", "--text", "面很好吃", "--text", ""]);
    assert_eq!(texts(&lines), ["球队赢了比赛", "面很好吃", ""]);
    let output = space.pipe(&["predict", "recipe.yaml", "topics", "--text", "球队赢了比赛"]);
    assert!(output.status == 0 && output.stdout.contains("球队赢了比赛"), "{}", output.stdout);
}

#[test]
fn files_of_every_format_give_the_same() {
    let space = ran();
    space.write("a.tsv", "text\tother\n球队赢了\t1\n面很好吃\t2\n");
    space.write("a.csv", "other,text\n1,球队赢了\n2,\"面很好吃\"\n");
    space.write("a.jsonl", "{\"text\": \"球队赢了\"}\n{\"text\": \"面很好吃\"}\n");
    space.write("a.txt", "球队赢了\n面很好吃\n");
    let expected = predictions(&space, &["--text", "球队赢了", "--text", "面很好吃"]);
    for (file, rows) in [("a.tsv", [2, 3]), ("a.csv", [2, 3]), ("a.jsonl", [1, 2]), ("a.txt", [1, 2])] {
        let lines = predictions(&space, &["--file", file]);
        assert_eq!(texts(&lines), texts(&expected), "{file}");
        for ((line, expected), row) in lines.iter().zip(&expected).zip(rows) {
            assert_eq!((&line["probabilities"], &line["row"]), (&expected["probabilities"], &row.into()), "{file}");
        }
    }
}

#[test]
fn file_without_the_template_s_column_is_told_apart() {
    let space = ran();
    space.write("b.tsv", "content\tother\n球队\t1\n").write("c.tsv", "text\tother\n球队\t1\n赢\n");
    let output = space.pipe(&["predict", "recipe.yaml", "topics", "--file", "b.tsv"]);
    assert_eq!(output.status, 2);
    let message = "b.tsv: the template uses the column `text`; the file has content, other";
    assert!(output.stderr.contains(message), "{}", output.stderr);
    let output = space.pipe(&["predict", "recipe.yaml", "topics", "--file", "c.tsv"]);
    assert!(output.status == 2 && output.stderr.contains("c.tsv: row 3"), "{}", output.stderr);
}

#[test]
fn stage_not_run_yet_says_what_to_run() {
    let space = tiny();
    for command in ["predict", "generate"] {
        let text: &[&str] = if command == "predict" { &["--text", "x"] } else { &[] };
        let set = "stages.base.objectives=[{masked_lm: {}}]";
        let output = space.pipe(&[&[command, "recipe.yaml", "topics", "--set", set], text].concat());
        assert_eq!(output.status, 2);
        let hint = format!("hint: pipe run recipe.yaml --stage topics --set '{set}'");
        assert!(output.stderr.contains(&hint), "{}", output.stderr);
    }
}

#[test]
fn stage_of_another_kind_or_name_is_refused() {
    let space = ran();
    let output = space.pipe(&["predict", "recipe.yaml", "base", "--text", "x"]);
    assert_eq!(output.status, 2);
    assert!(output.stderr.contains("`base` is a stage of kind pretrain and makes no classifier"), "{}", output.stderr);
    assert!(output.stderr.contains("hint: there is `topics`"), "{}", output.stderr);
    let output = space.pipe(&["generate", "recipe.yaml", "bose"]);
    assert!(output.status == 2 && output.stderr.contains("did you mean `base`?"), "{}", output.stderr);
}

#[test]
fn generated_text_ends_and_depends_on_the_seed_alone() {
    let space = ran();
    let generate = |arguments: &[&str]| {
        let output = space.pipe(&[&["generate", "recipe.yaml", "base", "--prompt", "球队"], arguments].concat());
        assert_eq!(output.status, 0, "{}", output.stderr);
        output.stdout
    };
    let first = generate(&["--max-tokens", "12", "--seed", "1"]);
    assert!(first.starts_with("球队") && first.ends_with('\n'), "{first}");
    assert!(first.trim_end().chars().count() <= 2 + 12, "{first}");
    assert_eq!(first, generate(&["--max-tokens", "12", "--seed", "1"]));
    let others = [2, 3, 4].map(|seed| generate(&["--max-tokens", "12", "--seed", &seed.to_string()]));
    assert!(others.iter().any(|other| *other != first));
    // The model's longest sequence ends it, whatever is asked for.
    assert!(generate(&["--max-tokens", "100000"]).chars().count() < 200);
    let json = generate(&["--max-tokens", "12", "--seed", "1", "--json"]);
    let json: Value = serde_json::from_str(&json).expect("JSON");
    assert_eq!(format!("球队{}\n", json["text"].as_str().expect("a text")), first);
    // What's finetuned on top of it still generates.
    let output = space.pipe(&["generate", "recipe.yaml", "topics", "--max-tokens", "3"]);
    assert_eq!(output.status, 0, "{}", output.stderr);
}

#[test]
fn model_that_never_learned_to_generate_says_what_to_do() {
    let space = tiny();
    space.write("recipe.yaml", TINY.replace(", { generative: { blank_infilling: {} } }", ""));
    assert_eq!(space.pipe(&["run", "recipe.yaml", "--stage", "base"]).status, 0);
    let output = space.pipe(&["generate", "recipe.yaml", "base"]);
    assert_eq!(output.status, 2);
    assert!(output.stderr.contains("give its pretraining a `generative` objective"), "{}", output.stderr);
}

#[test]
fn files_are_read_as_the_options_or_the_training_rows_say() {
    let space = ran();
    let expected = predictions(&space, &["--text", "球队赢了", "--text", "面很好吃"]);
    let same = |space: &Space, arguments: &[&str]| {
        let lines = predictions(space, arguments);
        assert_eq!(texts(&lines), texts(&expected), "{arguments:?}");
        for (line, expected) in lines.iter().zip(&expected) {
            assert_eq!(line["probabilities"], expected["probabilities"], "{arguments:?}");
        }
    };
    space.write("a.data", "1;球队赢了\n2;面很好吃\n");
    same(&space, &["--file", "a.data", "--format", "csv", "--columns", "id,text", "--delimiter", ";"]);
    let output = space.pipe(&["predict", "recipe.yaml", "topics", "--file", "a.data", "--format", "xml"]);
    assert!(output.status == 2 && output.stderr.contains("expected txt, tsv"), "{}", output.stderr);

    // Training rows without a header line.
    let rows = space.read("train.tsv");
    space.write("train.tsv", rows.split_once('\n').expect("a header").1);
    let recipe = TINY.replace("path: train.tsv", "path: train.tsv, columns: [label, text]");
    space.write("recipe.yaml", recipe);
    assert_eq!(space.pipe(&["run", "recipe.yaml", "--stage", "topics"]).status, 0);
    space.write("b.tsv", "?\t球队赢了\n?\t面很好吃\n");
    same(&space, &["--file", "b.tsv"]);
}
