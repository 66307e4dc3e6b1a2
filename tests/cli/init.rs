//! `pipe init`: a recipe on the user's own data.

use crate::common;
use std::collections::BTreeSet;

use common::Space;
use serde_json::Value;

/// Sizes that make the recipe run in a moment.
const SMALL: [&str; 5] = [
    "stages.language.train.epochs=1",
    "stages.language.model.glm={hidden: 16, layers: 1, heads: 2, max_length: 64}",
    "stages.language.train.max_length=48",
    "stages.classifier.train.epochs=1",
    "stages.classifier.train.max_length=48",
];

/// Rows as pairs of text and label, each label in 20 different rows.
fn rows(labels: [&str; 2]) -> Vec<(String, String)> {
    let texts = ["比赛在晚上开始", "面条配着青菜吃"];
    (0..40).map(|row| (format!("{}，第{row}次", texts[row % 2]), labels[row % 2].to_owned())).collect()
}

fn init(space: &Space, arguments: &[&str]) {
    let output = space.pipe(&[&["init", "mine"], arguments].concat());
    assert_eq!(output.status, 0, "{}", output.stderr);
    assert!(output.stderr.contains("now: pipe run mine/recipe.yaml"), "{}", output.stderr);
    let output = space.pipe(&["check", "mine/recipe.yaml"]);
    assert_eq!(output.status, 0, "{}", output.stderr);
}

/// Runs what was written, made small.
fn runs(space: &Space) {
    let sets = SMALL.map(|set| ["--set", set]).concat();
    let status = space.statuses(&[&["mine/recipe.yaml"], sets.as_slice()].concat());
    assert_eq!(status, "classifier=ran language=ran test=ran tokens=ran");
}

#[test]
fn tsv_becomes_a_recipe_that_runs() {
    let space = Space::new();
    let lines = rows(["体育", "美食"]).into_iter().map(|(text, label)| format!("{label}\t{text}\n"));
    space.write("my.tsv", format!("label\ttext\n{}", lines.collect::<String>()));
    init(&space, &["--data", "my.tsv"]);
    let recipe = space.read("mine/recipe.yaml");
    assert!(recipe.starts_with("# yaml-language-server: $schema=recipe.schema.json"), "{recipe}");
    assert!(recipe.contains("\"体育\": \"体育\"    # 20 rows"), "{recipe}");
    assert!(space.path().join("mine/recipe.schema.json").is_file());
    runs(&space);
}

#[test]
fn every_row_lands_in_one_part_and_equal_rows_in_the_same() {
    let space = Space::new();
    let mut rows = rows(["体育", "美食"]);
    rows.extend(rows.clone());
    let lines: String = rows.iter().map(|(text, label)| format!("{label}\t{text}\n")).collect();
    space.write("my.tsv", format!("label\ttext\n{lines}"));
    init(&space, &["--data", "my.tsv"]);
    let parts = ["train", "dev", "test"].map(|part| space.read(&format!("mine/data/{part}.jsonl")));
    assert_eq!(parts.each_ref().map(|part| part.lines().count()), [64, 8, 8]);
    let distinct = parts.each_ref().map(|part| part.lines().collect::<BTreeSet<_>>().len());
    assert_eq!(distinct, [32, 4, 4]);
}

#[test]
fn csv_with_odd_columns_and_numbers_for_labels_runs() {
    let space = Space::new();
    let lines = rows(["1", "0"]).into_iter().map(|(text, label)| format!("\"{text}, ok\",{label},x,y\n"));
    space.write("my.csv", format!("the text,1st-class?,a b,a-b\n{}", lines.collect::<String>()));
    init(&space, &["--data", "my.csv", "--label", "1st-class?"]);
    let recipe = space.read("mine/recipe.yaml");
    assert!(recipe.contains("{{ the_text }}") && recipe.contains("label: \"_1st_class_\""), "{recipe}");
    let first = space.read("mine/data/train.jsonl").lines().next().map(serde_json::from_str::<Value>);
    let first = first.expect("a row").expect("JSON");
    assert_eq!((&first["a_b"], &first["a_b_"]), (&"x".into(), &"y".into()));
    runs(&space);
}

#[test]
fn jsonl_with_chinese_columns_runs() {
    let space = Space::new();
    let line = |(text, label): (String, String)| format!("{{\"内容\": \"{text}\", \"类别\": {label}, \"in\": 1}}\n");
    space.write("my.jsonl", rows(["1", "2"]).into_iter().map(line).collect::<String>());
    init(&space, &["--data", "my.jsonl"]);
    let recipe = space.read("mine/recipe.yaml");
    assert!(recipe.contains("{{ 内容 }}") && recipe.contains("label: \"类别\""), "{recipe}");
    runs(&space);
}

#[test]
fn column_called_like_a_word_of_templates_gets_another_name() {
    let space = Space::new();
    let line = |(text, label): (String, String)| format!("{label}\t{text}\n");
    space.write("my.tsv", format!("label\tin\n{}", rows(["a", "b"]).into_iter().map(line).collect::<String>()));
    init(&space, &["--data", "my.tsv"]);
    assert!(space.read("mine/recipe.yaml").contains("{{ in_ }}"));
}

#[test]
fn nothing_is_overwritten() {
    for name in ["recipe.yaml", "data/dev.jsonl"] {
        let space = Space::new();
        space.write(&format!("mine/{name}"), "mine");
        let lines = rows(["体育", "美食"]).into_iter().map(|(text, label)| format!("{label}\t{text}\n"));
        space.write("my.tsv", format!("label\ttext\n{}", lines.collect::<String>()));
        let output = space.pipe(&["init", "mine", "--data", "my.tsv"]);
        assert_eq!(output.status, 2);
        assert!(output.stderr.contains(&format!("mine/{name} already exists")), "{}", output.stderr);
        assert_eq!(space.read(&format!("mine/{name}")), "mine");
        assert!(!space.path().join("mine/data/train.jsonl").exists());
    }
}

#[test]
fn data_that_cannot_be_learned_from_says_why() {
    let space = Space::new();
    let table = |label: &dyn Fn(usize) -> String| {
        let lines: String = (0..300).map(|row| format!("{}\t第{row}行\n", label(row))).collect();
        format!("label\ttext\n{lines}")
    };
    let cases = [
        ("few.tsv", "label\ttext\na\tb\n".to_owned(), "1 different rows; 30 are the least"),
        ("one.tsv", table(&|_| "a".into()), "column `label` has only one value"),
        ("many.tsv", table(&|row| row.to_string()), "column `label` has 300 values, too many for labels"),
        (
            "gap.tsv",
            table(&|row| if row == 7 { String::new() } else { (row % 2).to_string() }),
            "is empty in 1 of 300 rows",
        ),
        ("bad.tsv", "label\ttext\na\n".to_owned(), "bad.tsv: row 2: 1 field for 2 columns"),
    ];
    for (name, content, message) in cases {
        space.write(name, content);
        let output = space.pipe(&["init", "mine", "--data", name]);
        assert_eq!(output.status, 2, "{name}");
        assert!(output.stderr.contains(message), "{name}: {}", output.stderr);
        assert!(!space.path().join("mine").exists());
    }
    let output = space.pipe(&["init", "mine", "--data", "one.tsv", "--label", "lable"]);
    assert!(output.status == 2 && output.stderr.contains("no column `lable`"), "{}", output.stderr);
}

#[test]
fn examples_can_be_run_from_anywhere() {
    let space = Space::new();
    for name in ["chatglm_cls", "lora_cls", "sweep_cls", "sweep_halving", "chat", "seq2seq"] {
        // They share their data.
        let output = space.pipe(&["init", "tried", "--example", name]);
        assert_eq!(output.status, 0, "{}", output.stderr);
        assert!(output.stderr.contains(&format!("now: pipe run tried/{name}.yaml")), "{}", output.stderr);
        let output = space.pipe(&["check", &format!("tried/{name}.yaml")]);
        assert_eq!(output.status, 0, "{}", output.stderr);
        let text = space.read(&format!("tried/{name}.yaml"));
        assert!(text.starts_with("# yaml-language-server: $schema=recipe.schema.json\n"), "{name}");
        assert!(!text.contains("recipes/"), "{name}");
    }
    space.write("tried/data/train.tsv", "label\ttext\n");
    let output = space.pipe(&["init", "tried", "--example", "chatglm_cls"]);
    assert_eq!(output.status, 2);
    assert!(output.stderr.contains("train.tsv already exists, and is another one"), "{}", output.stderr);
    let output = space.pipe(&["init", "tried", "--example", "chatglm_cl"]);
    assert!(output.stderr.contains("did you mean `chatglm_cls`?"), "{}", output.stderr);
    assert_eq!(space.pipe(&["init", "tried"]).status, 2);
}
