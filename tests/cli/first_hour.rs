//! `benches/gpu.py`, the script for the first hour on a card, rehearsed without one.

use std::{path::Path, process::Command};

use crate::common::{Output, Space, finish, need, needs::Need};

/// The rehearsal on a device; the report goes into the space.
fn rehearse(python: impl AsRef<Path>, space: &Space, device: &str, arguments: &[&str]) -> Output {
    let script = format!("{}/benches/gpu.py", env!("CARGO_MANIFEST_DIR"));
    let mut command = Command::new(python.as_ref());
    command.args([script.as_str(), "--pipe", env!("CARGO_BIN_EXE_pipe"), "--rehearse", "--device", device]);
    command.args(arguments).args(["--minutes", "5", "--rounds", "1", "--out"]).arg(space.path());
    finish(command)
}

#[test]
fn the_first_hour_on_a_card_is_rehearsed_on_the_cpu() {
    let python = need!(Need::Transformers.variable("PIPE_PYTHON"));
    let space = Space::new();
    let arguments = ["--torch-device", "cpu", "--precision", "f32", "--steps", "1", "--no-compile"];
    let output = rehearse(python, &space, "cpu", &arguments);
    assert_eq!(output.status, 0, "{}", output.stderr);
    let told = space.read("gpu.md");
    for part in ["9 trainings have the CPU's losses", "million weights", "tiny beside PyTorch, eager"] {
        assert!(told.contains(part), "{part}: {told}");
    }
    let found: serde_json::Value = serde_json::from_str(&space.read("gpu.json")).unwrap();
    assert_eq!(found["runs"]["tiny"]["eager"].as_array().unwrap().len(), 1);
}

/// A part that fails is a finding, and those after it are done all the same.
#[test]
fn a_part_of_the_first_hour_that_fails_stops_no_other() {
    let python = need!(Need::Transformers.variable("PIPE_PYTHON"));
    let space = Space::new();
    let output = rehearse(python, &space, "cuda:9", &["--no-torch"]);
    assert_ne!(output.status, 0);
    let told = space.read("gpu.md");
    assert!(told.contains("| devices |") && told.contains("usable: cpu"), "{told}");
    assert!(told.matches("FAILED: ").count() >= 3, "{told}");
}
