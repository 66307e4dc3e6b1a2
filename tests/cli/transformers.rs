//! Exported models open in transformers and PEFT and give what they give here, and those that transformers saves open here:
//! for every family, tokenizer and way of training. `PIPE_PYTHON` names a Python that has torch, transformers and peft.

mod cells;
mod expected;
mod table;

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    process::Command,
};

use pipe::{
    network::device::{DeviceChoice, OpenDevice},
    recipe::Overrides,
    session::{Options, Recipe, Session},
    stages::TransformersFiles,
};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::common::{self, Space, need, needs::Need};
use cells::Cell;
use expected::{Model, expected};

/// What the script tells of a model.
#[derive(Debug, Deserialize)]
struct Report {
    problems: Vec<String>,
    saved: Option<Saved>,
}

/// What a model gives that transformers has saved.
#[derive(Debug, Deserialize)]
struct Saved {
    /// At each token of each text.
    logits: Vec<Vec<Vec<f64>>>,
    /// Of each text.
    scores: Vec<Vec<f64>>,
}

/// Every model's problems, there and back; `None` where there's no way back to try.
type Outcomes = BTreeMap<String, (Vec<String>, Option<Vec<String>>)>;

#[test]
fn models_mean_the_same_in_transformers() {
    let python = need!(Need::Transformers.variable("PIPE_PYTHON"));
    let space = Space::new();
    space.write("corpus.txt", cells::corpus()).write("rows.tsv", cells::rows()).write("recipe.yaml", cells::recipe());
    let output = space.pipe(&["run", "recipe.yaml", "--jobs", "2", "--device", "cpu"]);
    assert_eq!(output.status, 0, "{}", output.stderr);

    let device = DeviceChoice::Cpu.open().expect("a CPU");
    hand_out(&space, &device);
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/cli/transformers/matrix.py");
    let mut command = Command::new(python);
    command.arg(script).args(["cells.json", "results.json"]).current_dir(space.path());
    command.env("HF_HUB_OFFLINE", "1").env("TRANSFORMERS_OFFLINE", "1");
    let output = common::finish(command);
    assert_eq!(output.status, 0, "{}{}", output.stdout, output.stderr);
    let reports: BTreeMap<String, Report> = serde_json::from_str(&space.read("results.json")).expect("results");

    let outcomes: Outcomes = Cell::all()
        .into_iter()
        .map(|cell| {
            let report = &reports[&cell.stage()];
            let back = report.saved.as_ref().map(|saved| taken_back(&folder(&space, "saved", cell), saved, &device));
            (cell.stage(), (report.problems.clone(), back))
        })
        .collect();
    table::hold(&outcomes);
}

fn folder(space: &Space, kind: &str, cell: Cell) -> PathBuf {
    space.path().join(kind).join(cell.stage())
}

/// Exports every model, and writes what pipe says of it.
fn hand_out(space: &Space, device: &OpenDevice) {
    let session =
        Session::open(Options { store: space.path().join(".pipe"), ..Options::default() }).expect("a session");
    let recipe = Recipe::read(&space.path().join("recipe.yaml"), Overrides::default()).expect("a recipe");
    let graph = recipe.graph().expect("a graph");
    let plan = session.in_store().plan(&graph).expect("a plan");
    let of = |cell: Cell| {
        let artifact = plan.artifact(&cell.stage()).unwrap_or_else(|| panic!("{} has run", cell.stage()));
        let exported = folder(space, "exported", cell);
        std::fs::create_dir_all(&exported).expect("a folder");
        TransformersFiles::of(artifact, None).and_then(|files| files.write(&exported)).expect("an export");
        expected(cell, &artifact.path, &exported, &folder(space, "saved", cell), device)
    };
    let cells: Vec<Value> = Cell::all().into_iter().map(of).collect();
    space.write("cells.json", json!(cells).to_string());
}

/// What is wrong with a model here that transformers has saved.
fn taken_back(directory: &Path, saved: &Saved, device: &OpenDevice) -> Vec<String> {
    // A model that can't be read is one cell of the table.
    let read = || -> anyhow::Result<()> {
        pipe::network::model::Network::load(directory, &device.device)?;
        pipe::data::text::Tokenizer::load(&pipe::network::checkpoint::tokenizer_place(directory))?;
        Ok(())
    };
    if let Err(error) = read() {
        return vec![format!("{error:#}")];
    }
    let (model, exported) = (Model::load(directory, device), Model::load(&exported_of(directory), device));
    let mut problems = Vec::new();
    let texts = cells::texts();
    if texts.iter().any(|text| model.ids(text) != exported.ids(text)) {
        problems.push("other ids".to_owned());
    }
    let mut found: Vec<(f64, f64)> = Vec::new();
    for (text, expected) in texts.iter().zip(&saved.logits) {
        found.extend(model.logits(text).into_iter().flatten().map(f64::from).zip(expected.iter().flatten().copied()));
    }
    for (text, expected) in texts.iter().zip(&saved.scores) {
        match model.scores(text, None) {
            Ok(scores) => found.extend(scores.into_iter().zip(expected.iter().copied())),
            Err(error) => return vec![format!("{error:#}")],
        }
    }
    let apart = found.into_iter().map(|(found, expected)| (found - expected).abs());
    let furthest = apart.fold(0.0, |most, apart: f64| if apart.is_nan() || apart > most { apart } else { most });
    if furthest.is_nan() || furthest >= 1e-4 {
        problems.push(format!("numbers differ by {furthest:.1e}"));
    }
    problems
}

/// The exported model that one was saved after.
fn exported_of(saved: &Path) -> PathBuf {
    let (name, kind) = (saved.file_name().expect("a name"), saved.parent().expect("a folder"));
    kind.with_file_name("exported").join(name)
}
