//! `successive_halving` in a sweep: what is compared with what, what is promoted, and what a second call finds.

use crate::common;
use std::{
    io::{BufRead, BufReader},
    process::Stdio,
};

use common::{Space, TINY, tiny};
use indexmap::IndexMap;
use pipe::{
    recipe::{Document, Overrides},
    stages::catalog,
};
use serde_json::{Value, json};

const LR: &str = "stages.topics.train.lr";

/// Eight settings, halved after 2 and after 4 of 8 steps.
const SWEEP: &str = "
sweep:
  grid:
    stages.topics.train.lr: [1.0e-4, 3.0e-4, 1.0e-3, 3.0e-3, 1.0e-2, 2.0e-2, 3.0e-2, 1.0e-1]
  maximize: stages.test.metrics.accuracy
  successive_halving: { reduction: 2, rungs: 2, metric: loss }
";

pub(super) fn recipe(sweep: &str) -> String {
    let trained = "train: { steps: 8, evaluate_every: 1, batch: { examples: 4 }, max_length: 48, lr: 1.0e-3 }";
    let recipe = TINY.replace("train: { epochs: 2, batch: { examples: 4 }, max_length: 48, lr: 1.0e-3 }", trained);
    assert_ne!(recipe, TINY);
    format!("{recipe}{sweep}")
}

fn sweeping(sweep: &str) -> Space {
    let space = tiny();
    space.write("recipe.yaml", recipe(sweep));
    space
}

fn sweep(space: &Space, arguments: &[&str], status: i32) -> Value {
    let output = space.pipe(&[&["sweep", "recipe.yaml", "--json"], arguments].concat());
    assert_eq!(output.status, status, "{}", output.stderr);
    serde_json::from_str(&output.stdout).expect("JSON")
}

/// The cells by number.
fn cells(result: &Value) -> IndexMap<u64, Value> {
    let mut cells: IndexMap<u64, Value> = result["cells"]
        .as_array()
        .expect("cells")
        .iter()
        .map(|cell| (cell["cell"].as_u64().expect("a number"), cell.clone()))
        .collect();
    cells.sort_keys();
    cells
}

/// Of each cell in the order of the recipe its status, and the step that it came to.
fn endings(result: &Value) -> Vec<(String, u64)> {
    let ending = |cell: &Value| {
        (cell["status"].as_str().unwrap_or_default().to_owned(), cell["rungs"]["step"].as_u64().unwrap_or_default())
    };
    cells(result).values().map(ending).collect()
}

#[test]
fn promoted_cells_end_as_in_the_plain_grid_which_later_reuses_them() {
    let plain = sweeping(SWEEP);
    let grid = sweep(&plain, &["--set", "sweep.successive_halving=null"], 0);
    assert!(grid.get("asha").is_none());
    // Who has to go on, by the curves of the plain grid.
    let dev_loss = |cell: &Value, step: usize| -> f64 {
        let curve = plain.path().join(cell["stages"]["topics"]["path"].as_str().expect("a path")).join("curve.jsonl");
        let text = std::fs::read_to_string(curve).expect("a curve");
        let lines = text.lines().map(|line| serde_json::from_str::<Value>(line).expect("JSON"));
        let mut found = lines.filter(|line| line["step"] == step).filter_map(|line| line["dev"]["loss"].as_f64());
        found.next().expect("a measurement")
    };
    let expected_cells = cells(&grid);
    let mut alive: Vec<u64> = expected_cells.keys().copied().collect();
    let mut expected: IndexMap<u64, (String, u64)> = alive.iter().map(|number| (*number, ("done".into(), 8))).collect();
    for step in [2, 4] {
        let mut ranked = alive.clone();
        ranked.sort_by(|a, b| dev_loss(&expected_cells[a], step).total_cmp(&dev_loss(&expected_cells[b], step)));
        for number in ranked.drain(alive.len() / 2..) {
            expected.insert(number, ("stopped".into(), step as u64));
        }
        alive = ranked;
    }
    assert_eq!(alive.len(), 2);

    let space = sweeping(SWEEP);
    let result = sweep(&space, &["--csv", "cells.csv", "--parquet", "cells.parquet"], 0);
    assert_eq!(endings(&result), expected.values().cloned().collect::<Vec<_>>());
    assert_eq!(result["computed"], json!({ "tokenize": 1, "pretrain": 1, "finetune": 2, "linear": 1, "eval": 2 }));
    let rungs = json!([{ "part": 4, "settings": 8, "going_on": 4 }, { "part": 2, "settings": 4, "going_on": 2 }]);
    assert_eq!(
        result["asha"],
        json!({ "stage": "topics", "metric": "loss", "rungs": rungs, "steps": 4 * 2 + 2 * 4 + 2 * 8, "full_steps": 64 })
    );
    for (number, cell) in cells(&result) {
        let whole = &expected_cells[&number]["stages"];
        for stage in ["topics", "test"].iter().filter(|_| cell["status"] == "done") {
            assert_eq!(cell["stages"][stage]["key"], whole[stage]["key"]);
            assert_eq!(cell["stages"][stage]["digest"], whole[stage]["digest"]);
        }
        if cell["status"] == "stopped" {
            let step = cell["rungs"]["step"].as_u64().expect("a step");
            assert_eq!(cell["rungs"]["dev_metric"], json!(dev_loss(&expected_cells[&number], step as usize)));
            assert_eq!(cell["stages"]["topics"]["status"], "stopped");
            assert_eq!(cell["stages"]["test"]["status"], "stopped");
        }
    }
    let csv = space.read("cells.csv");
    let header: Vec<&str> = csv.lines().next().expect("a header").split(',').collect();
    assert_eq!(header[..7], ["cell", "status", LR, "objective", "step", "steps", "dev_loss"]);
    assert_eq!(csv.lines().filter(|line| line.contains(",stopped,")).count(), 6);
    // The best first, then who came furthest.
    let step = |line: &str| line.split(',').nth(4).map(str::to_owned);
    let steps: Vec<_> = csv.lines().skip(1).filter_map(step).collect();
    assert_eq!(steps, ["8", "8", "4", "4", "2", "2", "2", "2"]);
    let parquet = std::fs::File::open(space.path().join("cells.parquet")).expect("a file");
    assert!(parquet.metadata().is_ok_and(|file| file.len() > 0));

    // Again: nothing, at once.
    let again = sweep(&space, &[], 0);
    assert_eq!(again["computed"], json!({ "tokenize": 0, "pretrain": 0, "finetune": 0, "linear": 0, "eval": 0 }));
    assert_eq!((endings(&again), &again["asha"]), (endings(&result), &result["asha"]));
    assert!(again["seconds"].as_f64().is_some_and(|seconds| seconds < 1.0), "{}", again["seconds"]);
    let output = space.pipe(&["sweep", "recipe.yaml"]);
    assert!(!output.stderr.contains("finetune\n"), "{}", output.stderr);
    assert!(output.stderr.contains("trained 32 of 64 steps, 50 %"), "{}", output.stderr);
    assert!(
        output.stderr.contains("8 cells; nothing to do: all 7 stages are unchanged, 12 left off"),
        "{}",
        output.stderr
    );
    assert_eq!(output.stdout.matches("stopped at step 2 of 8").count(), 4, "{}", output.stdout);
    assert_eq!(output.stdout.matches("stopped at step 4 of 8").count(), 2, "{}", output.stdout);
    assert!(output.stdout.lines().next().is_some_and(|header| header.contains("dev loss")), "{}", output.stdout);

    // The rest of the grid goes on from where it was stopped, to the same bytes.
    let rest = sweep(&space, &["--set", "sweep.successive_halving=null"], 0);
    assert_eq!(rest["computed"], json!({ "tokenize": 0, "pretrain": 0, "finetune": 6, "linear": 0, "eval": 6 }));
    for (number, cell) in cells(&rest) {
        let digest = |cell: &Value| cell["stages"]["topics"]["digest"].clone();
        assert_eq!(digest(&cell), digest(&expected_cells[&number]), "cell {number}");
    }
    // And where all is stored, the same cells are still the ones that count.
    let both = sweep(&space, &[], 0);
    assert_eq!((&both["asha"], &both["computed"]), (&result["asha"], &again["computed"]));
    assert!(endings(&both).iter().all(|(status, _)| status == "done"));
}

#[test]
fn cells_do_not_depend_on_jobs() {
    let (one, two) = (sweeping(SWEEP), sweeping(SWEEP));
    let (one, two) = (sweep(&one, &["--jobs", "1"], 0), sweep(&two, &["--jobs", "2"], 0));
    assert_eq!(endings(&one), endings(&two));
    let digests = |result: &Value| -> Vec<Value> {
        cells(result).values().map(|cell| cell["stages"]["topics"]["digest"].clone()).collect()
    };
    assert_eq!(digests(&one), digests(&two));
}

#[test]
fn a_killed_sweep_goes_on_where_it_was() {
    let whole = sweep(&sweeping(SWEEP), &[], 0);
    let space = sweeping(SWEEP);
    let mut child = space.command(&["sweep", "recipe.yaml"]).stderr(Stdio::piped()).spawn().expect("a process");
    let mut lines = BufReader::new(child.stderr.take().expect("stderr")).lines();
    let third = lines.find(|line| line.as_ref().is_ok_and(|line| line == "topics (cell 3): at its rung, step 2 of 8"));
    assert!(third.is_some());
    child.kill().expect("a killed process");
    child.wait().expect("an ended process");

    let output = space.pipe(&["sweep", "recipe.yaml", "--json"]);
    assert_eq!(output.status, 0, "{}", output.stderr);
    let first_rung = output.stderr.split("rung 1 of 2").next().expect("a rung").to_owned();
    for task in ["topics", "topics (cell 2)", "topics (cell 3)"] {
        assert!(!first_rung.contains(&format!("\n{task}: finetune")), "{task} was trained again:\n{first_rung}");
    }
    assert!(first_rung.contains("topics (cell 8): finetune"), "{first_rung}");
    let result: Value = serde_json::from_str(&output.stdout).expect("JSON");
    assert_eq!((endings(&result), &result["asha"]), (endings(&whole), &whole["asha"]));
}

#[test]
fn a_cell_that_diverges_stops_no_other_and_is_tried_again() {
    let space = sweeping(&SWEEP.replace("1.0e-1]", "1.0e+30]"));
    let result = sweep(&space, &[], 1);
    let all = cells(&result);
    assert_eq!(all[&8]["status"], "failed");
    let done = all.values().filter(|cell| cell["status"] == "done").count();
    assert_eq!((done, result["asha"]["rungs"][0]["going_on"].as_u64()), (2, Some(4)));
    // What failed has no part in the steps.
    assert_eq!(result["asha"]["full_steps"], 7 * 8);
    let output = space.pipe(&["sweep", "recipe.yaml"]);
    assert_eq!(output.status, 1);
    assert_eq!(output.stderr.matches(": finetune\n").count(), 1, "{}", output.stderr);
    assert!(output.stderr.contains("1 cell failed, to be retried on the next run:\n  cell 8"), "{}", output.stderr);
    // A report can tell who was stopped all the same.
    assert_eq!(space.pipe(&["report", "recipe.yaml"]).status, 0);
    let page = space.read("recipe.html");
    assert!(page.contains("5 of which were stopped since others did better by dev loss"), "{page}");
    assert_eq!(page.matches("stopped at step 2 of 8").count(), 3);
}

#[test]
fn seeds_of_a_setting_go_on_together() {
    let sweep_section = SWEEP.replace(
        "3.0e-3, 1.0e-2, 2.0e-2, 3.0e-2, 1.0e-1]",
        "3.0e-3]\n  repeat: { seeds: [1, 2], over: [stages.topics.train.seed] }",
    );
    let result = sweep(&sweeping(&sweep_section), &[], 0);
    let endings = endings(&result);
    assert_eq!(endings.len(), 8);
    assert!(endings.chunks(2).all(|pair| pair[0] == pair[1]), "{endings:?}");
    assert_eq!(endings.iter().filter(|(status, _)| status == "done").count(), 2);
}

#[test]
fn stopped_cells_stay_known_as_long_as_a_recipe_asks_for_them() {
    let space = sweeping(SWEEP);
    let result = sweep(&space, &[], 0);
    let clear = |recipe: &[&str]| {
        let output = space.pipe(&[&["gc"], recipe, &["--grace", "0s", "--delete"]].concat());
        assert_eq!(output.status, 0, "{}", output.stderr);
        output.stderr
    };
    // Their states are large, and go; what they measured is small, and stays.
    clear(&["recipe.yaml"]);
    let left = |folder: &str| std::fs::read_dir(space.path().join(".pipe").join(folder)).map_or(0, Iterator::count);
    assert_eq!((left("tmp"), left("rungs")), (0, 8));
    let again = sweep(&space, &[], 0);
    assert_eq!(again["computed"], json!({ "tokenize": 0, "pretrain": 0, "finetune": 0, "linear": 0, "eval": 0 }));
    assert_eq!(endings(&again), endings(&result));
    assert_eq!(left("tmp"), 0, "nothing was trained");
    clear(&[]);
    assert_eq!(left("rungs"), 0);
}

#[test]
fn a_dry_run_shows_the_rungs() {
    let space = sweeping(SWEEP);
    let plan = sweep(&space, &["--dry-run"], 0);
    let rung =
        |part: u64, cells: u64, steps: u64| json!({ "part": part, "settings": cells, "cells": cells, "steps": steps });
    assert_eq!(
        plan["asha"],
        json!({
            "stage": "topics",
            "metric": "loss",
            "rungs": [rung(4, 8, 2), rung(2, 4, 4), rung(1, 2, 8)],
            "steps": 8 * 2 + 4 * 2 + 2 * 4,
            "full_steps": 64,
        })
    );
    let output = space.pipe(&["sweep", "recipe.yaml", "--dry-run"]);
    let said = "successive halving of `topics` by dev loss:
  rung 1, at 1/4 of the steps: 8 settings, 8 cells, to step 2
  rung 2, at 1/2 of the steps: 4 settings, 4 cells, to step 4
  the end: 2 settings, 2 cells, to step 8
  about 32 of 64 steps, 50 %";
    assert!(output.stderr.contains(said), "{}", output.stderr);
    // Rungs that measurements can't tell apart, which takes the number of the rows to see: two steps are an epoch.
    let text = recipe(SWEEP).replace("steps: 8, evaluate_every: 1,", "steps: 8,");
    space.write("recipe.yaml", text.replace("rungs: 2", "rungs: 3"));
    let output = space.pipe(&["sweep", "recipe.yaml", "--dry-run"]);
    assert_eq!(output.status, 2);
    let said = "rung 1 of `topics`, at 1/8 of its steps, falls on rung 2: dev rows are measured every 2 of 8 steps";
    assert!(output.stderr.contains(said), "{}", output.stderr);
}

/// What `pipe check` says about a recipe.
fn check(text: &str) -> String {
    let space = tiny();
    space.write("recipe.yaml", text);
    let output = space.pipe(&["check", "recipe.yaml"]);
    assert_eq!(output.status, 2, "{}", output.stderr);
    output.stderr
}

#[test]
fn mistakes_are_shown_where_they_are() {
    let halving = |settings: &str| recipe(&SWEEP.replace("{ reduction: 2, rungs: 2, metric: loss }", settings));
    let changed = |from: &str, to: &str| {
        let text = recipe(SWEEP);
        assert!(text.contains(from), "{from}");
        text.replace(from, to)
    };
    let second = "\n  again:
    finetune:
      from: topics
      data: { train: { path: train.tsv }, dev: { path: dev.tsv } }
      task: { classification: { template: \"{{ text }}，这是[Classification]。\", words: { 甲: 体育, 乙: 美食 } } }
      train: { epochs: 1, max_length: 48, lr: 1.0e-3 }
  test:\n    eval: { model: again,";
    let cases = [
        ("wrong values", halving("{ reduction: 1, rungs: 0, metric: los, stage: topic }")),
        ("a metric", halving("{ metric: f1 }")),
        ("a stage of another kind", halving("{ stage: base }")),
        (
            "a stage that is the same in all cells",
            changed(LR, "stages.test.data.limit")
                .replace("[1.0e-4, 3.0e-4, 1.0e-3, 3.0e-3, 1.0e-2, 2.0e-2, 3.0e-2, 1.0e-1]", "[1, 2]")
                .replace("metric: loss", "stage: topics"),
        ),
        (
            "nothing to stop",
            changed(LR, "stages.test.data.limit")
                .replace("[1.0e-4, 3.0e-4, 1.0e-3, 3.0e-3, 1.0e-2, 2.0e-2, 3.0e-2, 1.0e-1]", "[1, 2]"),
        ),
        ("two to stop", changed("\n  test:\n    eval: { model: topics,", second)),
        ("no objective", changed("  maximize: stages.test.metrics.accuracy\n", "")),
        ("no dev rows", changed(", dev: { path: dev.tsv } }", " }").replace("evaluate_every: 1, ", "")),
        ("too few measurements", changed("evaluate_every: 1", "evaluate_every: 4")),
        ("too few epochs", changed("steps: 8, evaluate_every: 1", "epochs: 2")),
        (
            "with tpe",
            recipe(&format!(
                "\nsweep:\n  tpe: {{ cells: 4, values: {{ {LR}: {{ log: [1.0e-4, 1.0e-2] }} }} }}\n  maximize: stages.test.metrics.accuracy\n  successive_halving: {{}}\n"
            )),
        ),
    ];
    let said: Vec<String> = cases.iter().map(|(what, text)| format!("## {what}\n{}", check(text))).collect();
    insta::assert_snapshot!(said.join("\n"));
}

#[test]
fn the_shipped_examples_have_the_same_cells() {
    let read = |name: &str| {
        let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("recipes").join(name);
        let document = Document::read(&path, catalog()).expect("a recipe");
        let recipe = document.check(&Overrides::default(), &|_, _| None).expect("a good recipe").recipe;
        serde_json::to_value(recipe).expect("JSON")
    };
    let (grid, mut halving) = (read("sweep_cls.yaml"), read("sweep_halving.yaml"));
    assert_ne!(grid, halving);
    halving["sweep"]["successive_halving"] = Value::Null;
    assert_eq!(grid, halving);
}
