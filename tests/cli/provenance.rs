//! What the store tells about an artifact afterwards: what it was made of, and what differs between any two.

use crate::common;
use common::{Space, TINY, finish, tiny};
use serde_json::Value;

/// The keys of a stage after a run with other settings, and after one as the recipe says.
fn two_runs(space: &Space) -> [String; 2] {
    let key = |options: &[&str]| {
        let result = space.json(&[&["run", "recipe.yaml"], options].concat());
        result["stages"]["topics"]["key"].as_str().expect("a key").to_owned()
    };
    [key(&["--set", "stages.topics.train.lr=2e-3"]), key(&[])]
}

#[test]
fn show_prints_recipe_overrides_inputs_and_where_it_was_made() {
    let space = tiny();
    let [key, _] = two_runs(&space);
    let shown = space.pipe(&["show", &key]);
    assert_eq!(shown.status, 0, "{}", shown.stderr);
    for line in TINY.lines().filter(|line| !line.is_empty()) {
        assert!(shown.stdout.contains(&format!("\n  {line}")), "{line} is not in {}", shown.stdout);
    }
    assert!(shown.stdout.contains("--set stages.topics.train.lr=2e-3"), "{}", shown.stdout);
    assert!(shown.stdout.contains(&format!("by pipe {} on cpu", env!("CARGO_PKG_VERSION"))), "{}", shown.stdout);
    let record = space.json(&["show", &key]);
    assert_eq!(record["provenance"]["recipe"], TINY);
    let inputs = record["manifest"]["inputs"].as_object().expect("an object");
    assert!(!inputs.is_empty());
    for digest in inputs.values() {
        assert!(shown.stdout.contains(digest.as_str().expect("a digest")), "{digest} is not in {}", shown.stdout);
    }
}

#[test]
fn records_say_how_the_cpu_computed_and_the_key_does_not_depend_on_it() {
    let space = tiny();
    let run = |kernels: &str| {
        let mut command = space.command(&["--store", kernels, "run", "recipe.yaml", "--stage", "tokens", "--json"]);
        command.env("PIPE_KERNELS", kernels);
        let output = finish(command);
        assert_eq!(output.status, 0, "{}", output.stderr);
        let result: Value = serde_json::from_str(&output.stdout).expect("JSON");
        result["stages"]["tokens"]["key"].as_str().expect("a key").to_owned()
    };
    let key = run("portable");
    assert_eq!(run("fast"), key);
    for kernels in ["portable", "fast"] {
        let record = space.json(&["--store", kernels, "show", &key]);
        let said = record["provenance"]["arithmetic"].as_str().expect("a word").to_owned();
        assert!(said.starts_with(kernels), "{said}");
        let shown = space.pipe(&["--store", kernels, "show", &key]);
        assert!(shown.stdout.contains(&format!("\ncpu     {said}\n")), "{}", shown.stdout);
    }
}

#[test]
fn why_compares_any_two_stored_runs() {
    let space = tiny();
    let [before, after] = two_runs(&space);
    let output = space.pipe(&["why", &before[..12], &after[..12]]);
    assert_eq!(output.status, 0, "{}", output.stderr);
    assert!(output.stdout.contains("train.lr: 0.002 → "), "{}", output.stdout);
    let result = space.json(&["why", &before, &after]);
    assert_eq!((&result["was"], &result["is"]), (&Value::from(before), &Value::from(after.clone())));
    let fields: Vec<_> = result["differences"].as_array().expect("a list").iter().map(|one| &one["field"]).collect();
    assert_eq!(fields, ["train.lr", "outputs"]);
    assert_eq!(space.json(&["why", &after, &after])["differences"], Value::Array(Vec::new()));
}

#[test]
fn why_tells_that_a_key_is_unknown() {
    let space = tiny();
    let output = space.pipe(&["why", "0000", "1111"]);
    assert_eq!(output.status, 2);
    assert!(output.stderr.contains("no artifact's key begins with `0000`; `pipe ls` lists them"), "{}", output.stderr);
}
