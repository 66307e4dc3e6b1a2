//! `pipe sweep`: what is shared, what is computed, and what the table says.

use crate::common;
use common::{Space, TINY, tiny};
use serde_json::{Value, json};

const GRID: &str = "
sweep:
  grid:
    stages.topics.train.lr: [1.0e-3, 3.0e-2]
    stages.topics.train.seed: [1, 2, 3]
  maximize: stages.test.metrics.accuracy
";

pub(super) fn sweeping(grid: &str) -> Space {
    let space = tiny();
    space.write("recipe.yaml", format!("{TINY}{grid}"));
    space
}

pub(super) fn sweep(space: &Space, arguments: &[&str], status: i32) -> Value {
    let output = space.pipe(&[&["sweep", "recipe.yaml", "--json"], arguments].concat());
    assert_eq!(output.status, status, "{}", output.stderr);
    serde_json::from_str(&output.stdout).expect("JSON")
}

#[test]
fn what_cells_share_is_computed_once() {
    let space = sweeping(GRID);
    let result = sweep(&space, &[], 0);
    assert_eq!(result["computed"], json!({ "tokenize": 1, "pretrain": 1, "finetune": 6, "linear": 1, "eval": 6 }));
    let cells = result["cells"].as_array().expect("cells");
    assert_eq!(cells.len(), 6);
    let mut objective = f64::INFINITY;
    for cell in cells {
        let mut keys: Vec<_> = cell.as_object().expect("a cell").keys().map(String::as_str).collect();
        keys.sort();
        assert_eq!(keys, ["cell", "objective", "overrides", "seed", "stages", "status"]);
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
    assert_eq!(again["computed"], json!({ "tokenize": 0, "pretrain": 0, "finetune": 0, "linear": 0, "eval": 0 }));
    assert!(again["seconds"].as_f64().is_some_and(|seconds| seconds < 0.3), "{}", again["seconds"]);

    let output = space.pipe(&["sweep", "recipe.yaml"]);
    let rows: Vec<&str> = output.stdout.lines().collect();
    assert!(rows[0].contains("topics.train.lr") && rows[0].contains("test.metrics.accuracy"), "{}", output.stdout);
    assert!(rows[1].contains("best") && rows[2..].iter().all(|row| !row.contains("best")), "{}", output.stdout);
    assert_eq!(rows.len(), 7);
    assert!(output.stderr.contains("6 cells; nothing to do: all 15 stages are unchanged"), "{}", output.stderr);
    assert!(output.stderr.contains("6 finetune, 1 linear, 1 pretrain, 1 tokenize; all stored"), "{}", output.stderr);
    // A run with a cell's settings finds what the sweep computed.
    let set = ["--set", "stages.topics.train.lr=0.03", "--set", "stages.topics.train.seed=2"];
    assert_eq!(space.statuses(&[&["recipe.yaml"], set.as_slice()].concat()), "base=hit test=hit tokens=hit topics=hit");
}

#[test]
fn results_do_not_depend_on_jobs() {
    let metrics = |jobs: &str| -> Vec<(Value, Value)> {
        let result = sweep(&sweeping(GRID), &["--jobs", jobs], 0);
        let cells = result["cells"].as_array().expect("cells").clone();
        cells.iter().map(|cell| (cell["overrides"].clone(), cell["stages"]["topics"]["digest"].clone())).collect()
    };
    assert_eq!(metrics("1"), metrics("2"));
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
    let line = TINY.lines().count() + 2;
    let cell = format!("in the cell stages.base.model.glm.heads=3 of recipe.yaml:{line}:");
    assert!(output.stderr.contains(&cell), "{}", output.stderr);
    // The caret stands under the value.
    assert!(output.stderr.contains(&format!("--> recipe.yaml:{line}:51")), "{}", output.stderr);
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
    space.write("bad.txt", common::with_bad_end(&space.read("corpus.txt")).0);
    let result = sweep(&space, &[], 1);
    let cells = result["cells"].as_array().expect("cells");
    let status = |path: &str| {
        let cell = cells.iter().find(|cell| cell["overrides"]["stages.tokens.corpus.0.path"] == path).expect("a cell");
        [&cell["status"], &cell["stages"]["tokens"]["status"], &cell["stages"]["test"]["status"]]
            .map(|status| status.as_str().unwrap_or_default().to_owned())
    };
    assert_eq!(status("bad.txt"), ["failed", "failed", "not_run"]);
    assert_eq!(status("corpus.txt"), ["done", "ran", "ran"]);
    assert_eq!(result["computed"], json!({ "tokenize": 1, "pretrain": 1, "finetune": 1, "linear": 1, "eval": 1 }));
}

#[test]
fn dry_run_counts_what_is_distinct() {
    let space = sweeping(GRID);
    let plan = sweep(&space, &["--dry-run"], 0);
    assert_eq!(plan["distinct"], json!({ "tokenize": 1, "pretrain": 1, "finetune": 6, "linear": 1, "eval": 6 }));
    assert_eq!(plan["cells"].as_array().map(Vec::len), Some(6));
    assert!(!space.path().join(".pipe").exists());
}

/// The overrides of all cells, in the order of the recipe, without running any.
fn cells(space: &Space, arguments: &[&str]) -> Vec<Value> {
    let plan = sweep(space, &[&["--dry-run"], arguments].concat(), 0);
    plan["cells"].as_array().expect("cells").clone()
}

pub(super) const LR: &str = "stages.topics.train.lr";
const EPOCHS: &str = "stages.topics.train.epochs";
const SEED: &str = "stages.topics.train.seed";

#[test]
fn lists_zips_and_grids_are_crossed() {
    let space = sweeping(&format!(
        "
sweep:
  list:
    - {{ {LR}: 1.0e-3 }}
    - {{ {LR}: 2.0e-3, stages.topics.train.schedule: constant }}
  zip:
    stages.base.model.glm.hidden: [16, 24]
    stages.base.model.glm.heads: [2, 3]
  grid:
    {EPOCHS}: {{ int: [1, 2] }}
"
    ));
    let cells = cells(&space, &[]);
    assert_eq!(cells.len(), 8);
    let (hidden, heads) = ("stages.base.model.glm.hidden", "stages.base.model.glm.heads");
    assert_eq!(cells[0], json!({ LR: 1e-3, hidden: 16, heads: 2, EPOCHS: 1 }));
    assert_eq!(cells[1], json!({ LR: 1e-3, hidden: 16, heads: 2, EPOCHS: 2 }));
    let constant = "constant";
    let last = json!({ LR: 2e-3, "stages.topics.train.schedule": constant, hidden: 24, heads: 3, EPOCHS: 2 });
    assert_eq!(cells[7], last);
}

#[test]
fn conditions_leave_out_settings_and_cells() {
    let space = sweeping(&format!(
        "
sweep:
  grid:
    stages.topics.train.schedule: [linear, constant]
    stages.topics.train.min_lr_ratio: {{ choice: [0.0, 0.1], when: stages.topics.train.schedule == 'linear' }}
    {LR}: {{ log: [1.0e-4, 1.0e-2], points: 3 }}
  when: not ({LR} > 0.005 and stages.topics.train.schedule == 'constant')
"
    ));
    let all = cells(&space, &[]);
    // linear: 2 ratios with 3 rates; constant: 2 rates, and no ratio.
    assert_eq!(all.len(), 8);
    let constant: Vec<_> = all.iter().filter(|cell| cell["stages.topics.train.schedule"] == "constant").collect();
    assert_eq!(constant.len(), 2);
    assert!(constant.iter().all(|cell| cell.get("stages.topics.train.min_lr_ratio").is_none()));
    let rates: Vec<_> = constant.iter().map(|cell| cell[LR].as_f64().expect("a rate")).collect();
    assert_eq!(rates, [1e-4, 1e-3]);
    // The command line leaves out more.
    assert_eq!(cells(&space, &["--filter", &format!("{LR} == 0.001")]).len(), 3);
    assert_eq!(cells(&space, &["--max-cells", "2"]), all[..2]);
    let output = space.pipe(&["sweep", "recipe.yaml", "--filter", "stages.topics.train.rate < 1"]);
    assert_eq!(output.status, 2);
    assert!(output.stderr.contains("no setting `stages.topics.train.rate`"), "{}", output.stderr);
}

#[test]
fn random_cells_come_from_the_seed_and_more_of_them_keep_the_first() {
    let recipe = |cells: usize, more: &str| {
        format!("\nsweep: {{ random: {{ cells: {cells}, values: {{ {LR}: {{ log: [1.0e-4, 1.0e-2] }}{more} }} }} }}\n")
    };
    let five = cells(&sweeping(&recipe(5, "")), &[]);
    assert_eq!(five, cells(&sweeping(&recipe(5, "")), &[]));
    assert_eq!(cells(&sweeping(&recipe(8, "")), &[])[..5], five);
    assert_ne!(cells(&sweeping(&recipe(5, "")), &["--set", "seed=4"]), five);
    // Another setting doesn't change what is drawn for this one.
    let wider = cells(&sweeping(&recipe(5, &format!(", {EPOCHS}: [1, 2]"))), &[]);
    for (cell, other) in five.iter().zip(&wider) {
        assert_eq!(cell[LR], other[LR]);
        assert!(cell[LR].as_f64().is_some_and(|rate| (1e-4..=1e-2).contains(&rate)));
    }
}

#[test]
fn repeats_are_put_together_as_mean_and_deviation() {
    let space = sweeping(&format!(
        "
sweep:
  grid: {{ {LR}: [1.0e-3, 2.0e-2] }}
  repeat: {{ seeds: [1, 2, 3], over: [{SEED}] }}
  maximize: stages.test.metrics.log_loss
"
    ));
    let result = sweep(&space, &["--csv", "cells.csv", "--parquet", "cells.parquet"], 0);
    assert_eq!(result["computed"], json!({ "tokenize": 1, "pretrain": 1, "finetune": 6, "linear": 1, "eval": 6 }));
    let groups = result["groups"].as_array().expect("groups");
    assert_eq!(groups.len(), 2);
    let cells = result["cells"].as_array().expect("cells");
    for group in groups {
        let of = |cell: &&Value| cell["overrides"][LR] == group["settings"][LR];
        let values: Vec<f64> =
            cells.iter().filter(of).map(|cell| cell["objective"].as_f64().expect("a metric")).collect();
        assert_eq!(values.len(), 3);
        let mean = values.iter().sum::<f64>() / 3.0;
        let deviation = (values.iter().map(|value| (value - mean).powi(2)).sum::<f64>() / 2.0).sqrt();
        assert!((group["mean"].as_f64().expect("a mean") - mean).abs() < 1e-12);
        assert!((group["deviation"].as_f64().expect("a deviation") - deviation).abs() < 1e-12);
    }
    let table = space.pipe(&["sweep", "recipe.yaml"]).stdout;
    assert_eq!(table.lines().count(), 3, "{table}");
    assert!(table.lines().nth(1).is_some_and(|best| best.contains(" ± ")), "{table}");

    let csv = space.read("cells.csv");
    let header: Vec<&str> = csv.lines().next().expect("a header").split(',').collect();
    assert_eq!(header[..5], ["cell", "status", LR, SEED, "objective"]);
    assert!(header.contains(&"test.macro_f1"), "{header:?}");
    assert_eq!(csv.lines().count(), 7);
    let parquet = std::fs::File::open(space.path().join("cells.parquet")).expect("a file");
    let reader = parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder::try_new(parquet).expect("Parquet");
    assert_eq!(reader.metadata().file_metadata().num_rows(), 6);
    let kinds: Vec<_> = reader.schema().fields().iter().take(5).map(|field| field.data_type().to_string()).collect();
    assert_eq!(kinds, ["Int64", "Utf8", "Float64", "Int64", "Float64"]);
}

#[test]
fn a_cell_that_diverges_is_reported_at_the_end_and_tried_again() {
    let space = sweeping(&format!(
        "\nsweep: {{ grid: {{ {LR}: [1.0e-3, 1.0e+30] }}, maximize: stages.test.metrics.accuracy }}\n"
    ));
    let result = sweep(&space, &[], 1);
    assert_eq!(result["computed"], json!({ "tokenize": 1, "pretrain": 1, "finetune": 1, "linear": 1, "eval": 1 }));
    assert_eq!(result["cells"][0]["status"], "done");
    assert_eq!(result["cells"][1]["status"], "failed");
    let output = space.pipe(&["sweep", "recipe.yaml"]);
    assert_eq!(output.status, 1);
    let end = output.stderr.rsplit("1 cell failed, to be retried on the next run:").next().expect("an end");
    assert!(end.contains("cell 2  stages.topics.train.lr=1e+30"), "{}", output.stderr);
    assert!(end.contains("topics") && end.contains("is not finite at step"), "{}", output.stderr);
    assert!(output.stdout.lines().nth(2).is_some_and(|row| row.contains("failed")), "{}", output.stdout);
}

#[test]
fn added_values_compute_only_the_new_cells() {
    let grid = |rates: &str| format!("\nsweep: {{ grid: {{ {LR}: [{rates}] }} }}\n");
    let space = sweeping(&grid("1.0e-3, 2.0e-3"));
    sweep(&space, &[], 0);
    space.write("recipe.yaml", format!("{TINY}{}", grid("1.0e-3, 5.0e-3, 2.0e-3")));
    let plan = sweep(&space, &["--dry-run"], 0);
    assert_eq!(plan["to_compute"], json!({ "finetune": 1, "eval": 1 }));
    assert!(plan["estimated_seconds"].as_f64().is_some_and(|seconds| seconds > 0.0), "{plan}");
    assert_eq!(plan["not_estimated"], 0);
    let result = sweep(&space, &[], 0);
    assert_eq!(result["computed"], json!({ "tokenize": 0, "pretrain": 0, "finetune": 1, "linear": 0, "eval": 1 }));
}

#[test]
fn a_killed_sweep_computes_only_what_is_missing() {
    let seeds: Vec<_> = (1..=24).map(|seed: u32| seed.to_string()).collect();
    let space = sweeping(&format!("\nsweep: {{ grid: {{ {SEED}: [{}] }} }}\n", seeds.join(", ")));
    let mut child =
        space.command(&["sweep", "recipe.yaml"]).stderr(std::process::Stdio::piped()).spawn().expect("pipe");
    let mut lines = std::io::BufRead::lines(std::io::BufReader::new(child.stderr.take().expect("stderr")));
    let third = lines.find(|line| line.as_ref().is_ok_and(|line| line.starts_with("test (cell 3): done")));
    assert!(third.is_some());
    child.kill().expect("a killed process");
    child.wait().expect("an ended process");

    let stored = |kind: &str| {
        let all = space.json(&["ls"]);
        all.as_array().expect("artifacts").iter().filter(|artifact| artifact["kind"] == kind).count()
    };
    let before = stored("finetune");
    assert!((3..24).contains(&before), "{before}");
    let evaluated = stored("eval");
    let result = sweep(&space, &[], 0);
    let expected =
        json!({ "tokenize": 0, "pretrain": 0, "finetune": 24 - before, "linear": 0, "eval": 24 - evaluated });
    assert_eq!(result["computed"], expected);
    let again = sweep(&space, &[], 0);
    assert_eq!(again["computed"], json!({ "tokenize": 0, "pretrain": 0, "finetune": 0, "linear": 0, "eval": 0 }));
    assert!(again["seconds"].as_f64().is_some_and(|seconds| seconds < 1.0), "{}", again["seconds"]);
}

#[test]
fn max_cells_takes_all_seeds_of_a_setting_or_none() {
    let space = sweeping(&format!(
        "\nsweep: {{ grid: {{ {LR}: [1.0e-3, 2.0e-3, 3.0e-3] }}, repeat: {{ seeds: [1, 2], over: [{SEED}] }} }}\n"
    ));
    let count = |most: &str| cells(&space, &["--max-cells", most]).len();
    assert_eq!(["1", "2", "3", "4", "5", "6", "9"].map(count), [2, 2, 2, 4, 4, 6, 6]);
    // What a filter leaves of a setting counts.
    assert_eq!(cells(&space, &["--max-cells", "2", "--filter", &format!("{SEED} == 2")]).len(), 2);
}
