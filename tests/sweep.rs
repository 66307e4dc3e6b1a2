//! `pipe sweep`: what is shared, what is computed, and what the table says.

mod common;

use common::{Space, TINY, tiny};
use serde_json::{Value, json};

const GRID: &str = "
sweep:
  grid:
    stages.topics.train.lr: [1.0e-3, 3.0e-2]
    stages.topics.train.seed: [1, 2, 3]
  maximize: stages.test.metrics.accuracy
";

fn sweeping(grid: &str) -> Space {
    let space = tiny();
    space.write("recipe.yaml", format!("{TINY}{grid}"));
    space
}

fn sweep(space: &Space, arguments: &[&str], status: i32) -> Value {
    let output = space.pipe(&[&["sweep", "recipe.yaml", "--json"], arguments].concat());
    assert_eq!(output.status, status, "{}", output.stderr);
    serde_json::from_str(&output.stdout).expect("JSON")
}

#[test]
fn what_cells_share_is_computed_once() {
    let space = sweeping(GRID);
    let result = sweep(&space, &[], 0);
    assert_eq!(result["computed"], json!({ "tokenize": 1, "pretrain": 1, "finetune": 6, "eval": 6 }));
    let cells = result["cells"].as_array().expect("cells");
    assert_eq!(cells.len(), 6);
    let mut objective = f64::INFINITY;
    for cell in cells {
        let mut keys: Vec<_> = cell.as_object().expect("a cell").keys().map(String::as_str).collect();
        keys.sort();
        assert_eq!(keys, ["objective", "overrides", "stages", "status"]);
        assert_eq!(cell["status"], "done");
        assert_eq!(cell["objective"], cell["stages"]["test"]["metrics"]["accuracy"]);
        // The best comes first.
        assert!(cell["objective"].as_f64().is_some_and(|value| value <= objective));
        objective = cell["objective"].as_f64().unwrap_or_default();
        assert_eq!(cell["stages"]["topics"]["kind"], "finetune");
        let overrides = cell["overrides"].as_object().expect("overrides");
        assert_eq!(overrides.keys().collect::<Vec<_>>(), ["stages.topics.train.lr", "stages.topics.train.seed"]);
    }
    let ran =
        |cells: &[Value], stage: &str| cells.iter().filter(|cell| cell["stages"][stage]["status"] == "ran").count();
    assert_eq!(["tokens", "base", "topics", "test"].map(|stage| ran(cells, stage)), [1, 1, 6, 6]);

    let again = sweep(&space, &[], 0);
    assert_eq!(again["computed"], json!({ "tokenize": 0, "pretrain": 0, "finetune": 0, "eval": 0 }));
    assert!(again["seconds"].as_f64().is_some_and(|seconds| seconds < 0.3), "{}", again["seconds"]);

    let output = space.pipe(&["sweep", "recipe.yaml"]);
    let rows: Vec<&str> = output.stdout.lines().collect();
    assert!(rows[0].contains("topics.train.lr") && rows[0].contains("test.metrics.accuracy"), "{}", output.stdout);
    assert!(rows[1].contains("best") && rows[2..].iter().all(|row| !row.contains("best")), "{}", output.stdout);
    assert_eq!(rows.len(), 7);
    assert!(output.stderr.contains("6 cells; nothing to do: all 14 stages are unchanged"), "{}", output.stderr);
    // A run with a cell's settings finds what the sweep computed.
    let set = ["--set", "stages.topics.train.lr=0.03", "--set", "stages.topics.train.seed=2"];
    assert_eq!(space.statuses(&[&["recipe.yaml"], set.as_slice()].concat()), "base=hit test=hit tokens=hit topics=hit");
}

#[test]
fn results_do_not_depend_on_jobs() {
    let figures = |jobs: &str| -> Vec<(Value, Value)> {
        let result = sweep(&sweeping(GRID), &["--jobs", jobs], 0);
        let cells = result["cells"].as_array().expect("cells").clone();
        cells.iter().map(|cell| (cell["overrides"].clone(), cell["stages"]["topics"]["digest"].clone())).collect()
    };
    assert_eq!(figures("1"), figures("2"));
}

#[test]
fn minimized_objective_puts_the_lowest_first() {
    let space =
        sweeping(&GRID.replace("maximize: stages.test.metrics.accuracy", "minimize: stages.topics.metrics.loss"));
    let result = sweep(&space, &[], 0);
    let objectives: Vec<_> = result["cells"]
        .as_array()
        .expect("cells")
        .iter()
        .map(|cell| cell["objective"].as_f64().expect("a loss"))
        .collect();
    assert!(objectives.is_sorted(), "{objectives:?}");
}

#[test]
fn bad_value_is_found_before_anything_runs() {
    // Of the wrong type: shown where it stands.
    let space = sweeping(&GRID.replace("3.0e-2", "fast"));
    let output = space.pipe(&["sweep", "recipe.yaml"]);
    assert_eq!(output.status, 2);
    let line = TINY.lines().count() + 4;
    assert!(output.stderr.contains(&format!("--> recipe.yaml:{line}:")), "{}", output.stderr);
    // Of the right type, but not beside the others: the cell is named.
    let space = sweeping("\nsweep: { grid: { stages.base.model.glm.heads: [2, 3] } }\n");
    let output = space.pipe(&["sweep", "recipe.yaml"]);
    assert_eq!(output.status, 2);
    let cell = format!("in the cell stages.base.model.glm.heads=3 of recipe.yaml:{}:", TINY.lines().count() + 2);
    assert!(output.stderr.contains(&cell), "{}", output.stderr);
    assert!(output.stderr.contains("1 cell of the sweep can't run, so nothing was run"), "{}", output.stderr);
    assert!(!space.path().join(".pipe").exists());
    // No sweep at all.
    let output = tiny().pipe(&["sweep", "recipe.yaml"]);
    assert!(output.status == 2 && output.stderr.contains("has no `sweep` section"), "{}", output.stderr);
}

#[test]
fn all_bad_cells_are_reported_and_equal_mistakes_once() {
    let grid = "{ stages.base.model.glm.heads: [3, 2, 5], stages.base.train.steps: [1, 2] }";
    let output = sweeping(&format!("\nsweep: {{ grid: {grid} }}\n")).pipe(&["sweep", "recipe.yaml"]);
    assert_eq!(output.status, 2);
    for heads in [3, 5] {
        let cell = |steps| format!("stages.base.model.glm.heads={heads}  stages.base.train.steps={steps}");
        let cells = format!("in the cells {} and {} of recipe.yaml:", cell(1), cell(2));
        assert!(output.stderr.contains(&cells), "{}", output.stderr);
    }
    assert!(output.stderr.contains("4 cells of the sweep can't run, so nothing was run"), "{}", output.stderr);
}

#[test]
fn failing_cell_does_not_stop_the_others() {
    let space = sweeping("\nsweep: { grid: { stages.tokens.corpus.0.path: [bad.txt, corpus.txt] } }\n");
    space.write("bad.txt", b"\xff\n");
    let result = sweep(&space, &[], 1);
    let cells = result["cells"].as_array().expect("cells");
    let status = |path: &str| {
        let cell = cells.iter().find(|cell| cell["overrides"]["stages.tokens.corpus.0.path"] == path).expect("a cell");
        [&cell["status"], &cell["stages"]["tokens"]["status"], &cell["stages"]["test"]["status"]]
            .map(|status| status.as_str().unwrap_or_default().to_owned())
    };
    assert_eq!(status("bad.txt"), ["failed", "failed", "not_run"]);
    assert_eq!(status("corpus.txt"), ["done", "ran", "ran"]);
    assert_eq!(result["computed"], json!({ "tokenize": 1, "pretrain": 1, "finetune": 1, "eval": 1 }));
}

#[test]
fn dry_run_counts_what_is_distinct() {
    let space = sweeping(GRID);
    let plan = sweep(&space, &["--dry-run"], 0);
    assert_eq!(plan["distinct"], json!({ "tokenize": 1, "pretrain": 1, "finetune": 6, "eval": 6 }));
    assert_eq!(plan["cells"].as_array().map(Vec::len), Some(6));
    assert!(!space.path().join(".pipe").exists());
}
