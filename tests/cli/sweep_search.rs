//! Sweeps that search: cells that depend on those before.

use serde_json::{Value, json};

use super::sweep::{LR, sweep, sweeping};

#[test]
fn tpe_tries_as_many_cells_as_asked_and_goes_on_from_the_store() {
    let space = sweeping(&format!(
        "
sweep:
  tpe:
    cells: 7
    startup: 3
    batch: 2
    values:
      {LR}: {{ log: [1.0e-5, 1.0e-1] }}
      stages.topics.train.schedule: [linear, constant]
      stages.topics.train.warmup_steps: {{ int: [0, 3], when: stages.topics.train.schedule == 'linear' }}
  minimize: stages.topics.metrics.loss
"
    ));
    let plan = sweep(&space, &["--dry-run"], 0);
    assert_eq!((plan["cells"].as_array().map(Vec::len), &plan["further_cells"]), (Some(3), &json!(4)));
    let result = sweep(&space, &[], 0);
    let cells = result["cells"].as_array().expect("cells");
    assert_eq!(cells.len(), 7);
    for cell in cells {
        let warms = cell["overrides"].get("stages.topics.train.warmup_steps").is_some();
        assert_eq!(warms, cell["overrides"]["stages.topics.train.schedule"] == "linear");
    }
    let again = sweep(&space, &["--jobs", "2"], 0);
    assert_eq!(again["computed"], json!({ "tokenize": 0, "pretrain": 0, "finetune": 0, "linear": 0, "eval": 0 }));
    let overrides = |result: &Value| -> Vec<Value> {
        result["cells"].as_array().expect("cells").iter().map(|cell| cell["overrides"].clone()).collect()
    };
    assert_eq!(overrides(&again), overrides(&result));
}

#[test]
fn a_cell_that_cannot_run_does_not_end_a_search_midway() {
    let space = sweeping(&format!(
        "
sweep:
  tpe:
    cells: 8
    startup: 1
    batch: 1
    values:
      stages.base.model.glm.heads: [3, 2, 5, 6, 7]
      {LR}: {{ log: [1.0e-4, 1.0e-2] }}
  maximize: stages.test.metrics.accuracy
"
    ));
    let output = space.pipe(&["sweep", "recipe.yaml", "--json"]);
    assert_eq!(output.status, 1, "{}", output.stderr);
    assert!(!output.stderr.contains("nothing was run"), "{}", output.stderr);
    assert!(output.stderr.contains("3 heads don't divide a hidden size of 16"), "{}", output.stderr);
    let result: Value = serde_json::from_str(&output.stdout).expect("JSON");
    let cells = result["cells"].as_array().expect("cells");
    let refused = 8 - cells.len();
    let last = cells.iter().filter_map(|cell| cell["cell"].as_u64()).max();
    assert!(refused > 0 && last > Some(cells.len() as u64), "the search went on after it: {}", output.stderr);
    assert!(cells.iter().all(|cell| cell["status"] == "done"));
    let said = format!("{refused} cell{} that the search drew can't run", if refused == 1 { "" } else { "s" });
    assert!(output.stderr.contains(&said), "{}", output.stderr);
    // Again, the same cells are drawn and nothing is computed; a report has those that could run.
    let again = space.pipe(&["sweep", "recipe.yaml", "--json"]);
    let again: Value = serde_json::from_str(&again.stdout).expect("JSON");
    assert_eq!(again["cells"].as_array().map(Vec::len), Some(cells.len()));
    assert_eq!(again["computed"], json!({ "tokenize": 0, "pretrain": 0, "finetune": 0, "linear": 0, "eval": 0 }));
    assert_eq!(space.pipe(&["report", "recipe.yaml"]).status, 0);
}
