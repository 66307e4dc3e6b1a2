//! What stands around the examples that `pipe data` shows: their fields' documentation, what a record keeps of them, the report, and the
//! shipped recipes.

use std::collections::BTreeSet;

use pipe::stages::Shown;
use serde_json::{Value, json};

use super::data::{examples, fed};
use crate::common::{Space, TINY, tiny};

#[test]
fn fields_are_documented() {
    let space = fed();
    assert_eq!(space.pipe(&["run", "recipe.yaml", "--stage", "tokens"]).status, 0);
    let guide = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/guide/examples.md");
    let guide = std::fs::read_to_string(guide).expect("the guide");
    let mut names = BTreeSet::new();
    for arguments in [
        &["base", "-n", "2"][..],
        &["topics", "-n", "1", "--set", "stages.topics.train.max_length=16"],
        &["linear", "-n", "1"],
        &["answers", "-n", "1"],
    ] {
        for one in examples(&space, arguments) {
            collect(&serde_json::to_value(one).expect("JSON"), &mut names);
        }
    }
    // The names of remarks are the objectives'.
    names.remove("blanks");
    assert!(names.len() > 30, "{names:?}");
    let missing: Vec<_> = names.iter().filter(|name| !guide.contains(&format!("`{name}`"))).collect();
    assert!(missing.is_empty(), "docs/guide/examples.md says nothing of {missing:?}");
}

/// The names of all fields.
fn collect(value: &Value, names: &mut BTreeSet<String>) {
    match value {
        Value::Object(fields) => {
            for (name, value) in fields {
                names.insert(name.clone());
                collect(value, names);
            }
        }
        Value::Array(values) => values.iter().for_each(|value| collect(value, names)),
        _ => {}
    }
}

#[test]
fn some_are_recorded_and_stand_in_the_report() {
    let space = tiny();
    let text = "<b>球</b> & 赢";
    space.write("train.tsv", format!("label\ttext\n甲\t{text}\n乙\t{text}\n"));
    assert_eq!(space.pipe(&["run", "recipe.yaml"]).status, 0);
    let page = {
        assert_eq!(space.pipe(&["report", "recipe.yaml"]).status, 0);
        space.read("recipe.html")
    };
    assert_eq!(page.matches("Examples that it was given").count(), 2, "base and topics");
    assert!(page.contains("&lt;b&gt;球&lt;&#x2f;b&gt; &amp; 赢，这是[Classification]。"), "{page}");
    let result = space.json(&["run", "recipe.yaml"]);
    let key = result["stages"]["base"]["key"].as_str().expect("a key");
    let record = space.json(&["show", key]);
    let recorded = record["provenance"]["examples"].as_array().expect("examples");
    let first: Vec<Shown> = examples(&space, &["base", "-n", "2"]);
    assert_eq!(recorded.len(), first.len());
    for (recorded, shown) in recorded.iter().zip(&first) {
        assert_eq!((&recorded["ids"], &recorded["step"]), (&json!(shown.ids), &json!(shown.step)));
        assert!(recorded["file"].is_null(), "corpora aren't read again for it");
    }
}

#[test]
fn shipped_recipes_show_what_they_learn_from() {
    let space = Space::new();
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("recipes");
    let mut shown = BTreeSet::new();
    for entry in std::fs::read_dir(&folder).expect("recipes") {
        let path = entry.expect("an entry").path();
        if path.extension().is_none_or(|extension| extension != "yaml") {
            continue;
        }
        let (name, recipe) = (path.file_stem().expect("a name").to_string_lossy().into_owned(), path.to_string_lossy());
        let planned = space.pipe(&["plan", &recipe, "--json"]);
        if planned.status != 0 {
            assert!(
                planned.stderr.contains("no file") || planned.stderr.contains("there is no"),
                "{name}: {}",
                planned.stderr
            );
            continue;
        }
        let plan: Value = serde_json::from_str(&planned.stdout).expect("JSON");
        let stages = plan["stages"].as_object().expect("stages");
        let of_kinds = |kinds: &'static [&str]| {
            let is_one = move |stage: &Value| kinds.iter().any(|kind| stage["kind"] == *kind);
            stages.iter().filter(move |(_, stage)| is_one(stage)).map(|(name, _)| name)
        };
        for stage in of_kinds(&["tokenize"]) {
            assert_eq!(space.pipe(&["run", &recipe, "--stage", stage]).status, 0, "{name}");
        }
        for stage in of_kinds(&["pretrain", "finetune"]) {
            let output = space.pipe(&["data", &recipe, stage, "-n", "1"]);
            assert!(output.status == 0 && output.stdout.contains("  token    "), "{name}, {stage}: {}", output.stderr);
            shown.insert(name.clone());
        }
    }
    let expected = ["chat", "chatglm_cls", "lora_cls"];
    assert!(expected.iter().all(|name| shown.contains(*name)), "{shown:?}");
}

#[test]
fn tiny_recipes_are_shown_as_they_are() {
    let space = tiny();
    assert_eq!(space.read("recipe.yaml"), TINY);
    assert_eq!(space.pipe(&["run", "recipe.yaml", "--stage", "tokens"]).status, 0);
    let output = space.pipe(&["data", "recipe.yaml", "topics", "-n", "1"]);
    assert_eq!(output.status, 0, "{}", output.stderr);
    for part in [
        "classification · step 1, batch 1, example 1",
        "  from     train.tsv, row ",
        "  label    ",
        "  loss     choice ",
    ] {
        assert!(output.stdout.contains(part), "{part}: {}", output.stdout);
    }
}
