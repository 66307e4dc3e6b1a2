//! Training with fewer bits and in parts: the same learning, other metrics.

use crate::common;
use common::{Space, TINY, tiny};
use serde_json::{Value, json};

/// The tiny recipe's pretraining with these settings.
fn space(settings: &str) -> Space {
    let space = tiny();
    let recipe = &TINY[..TINY.find("  topics:").expect("the next stage")];
    space.write("recipe.yaml", recipe.replace("lr: 1.0e-3", &format!("lr: 1.0e-3, {settings}")));
    space
}

/// What became of the pretraining, and the losses of its steps.
fn run(space: &Space, arguments: &[&str]) -> (Value, Vec<f64>) {
    let result = space.json(&[&["run", "recipe.yaml", "--device", "cpu"], arguments].concat());
    let stage = result["stages"]["base"].clone();
    let path = space.path().join(stage["path"].as_str().expect("a path")).join("curve.jsonl");
    let curve = std::fs::read_to_string(path).expect("a curve");
    let losses = curve.lines().map(|line| serde_json::from_str::<Value>(line).expect("json")["loss"].as_f64());
    (stage, losses.map(|loss| loss.expect("a loss")).collect())
}

fn furthest(found: &[f64], expected: &[f64]) -> f64 {
    assert_eq!(found.len(), expected.len());
    found.iter().zip(expected).map(|(found, expected)| (found - expected).abs()).fold(0.0, f64::max)
}

#[test]
fn sixteen_bits_learn_what_f32_learns_up_to_their_rounding() {
    let (_, expected) = run(&space("precision: f32"), &[]);
    for precision in ["bf16", "f16", "mixed"] {
        let (stage, found) = run(&space(&format!("precision: {precision}")), &[]);
        let (again, _) = run(&space(&format!("precision: {precision}")), &[]);
        assert_eq!(stage["digest"], again["digest"], "{precision}");
        let far = furthest(&found, &expected);
        assert!(far > 0.0 && far < 2e-2, "{precision}: {far}");
    }
}

#[test]
fn precision_changes_the_key_and_micro_batches_do_not() {
    let space = space("precision: f32");
    run(&space, &[]);
    assert_eq!(
        space.statuses(&["recipe.yaml", "--set", "stages.base.train.micro_batch.tokens=16"]),
        "base=hit tokens=hit"
    );
    assert_eq!(space.statuses(&["recipe.yaml", "--set", "stages.base.train.precision=mixed"]), "base=ran tokens=hit");
}

#[test]
fn micro_batches_leave_the_losses_as_they_are() {
    let (whole, expected) = run(&space("micro_batch: whole"), &[]);
    let (parts, found) = run(&space("micro_batch: { tokens: 24 }"), &[]);
    assert!(furthest(&found, &expected) < 1e-5, "{found:?} instead of {expected:?}");
    assert_eq!(parts["metrics"]["micro_batch_tokens"], 24);
    assert_eq!(whole["metrics"]["micro_batch_tokens"], Value::Null);
    let (_, found) = run(&space("micro_batch: auto, loss_normalization: batch"), &[]);
    assert!(furthest(&found, &expected) < 1e-5, "{found:?} instead of {expected:?}");
}

#[test]
fn figures_of_speed_stand_in_the_artifact_and_not_in_its_digest() {
    let space = space("precision: f32");
    let (stage, _) = run(&space, &[]);
    let number = |name: &str| stage["metrics"][name].as_f64().unwrap_or_else(|| panic!("no {name} in {stage}"));
    let (reached, peak) = (number("flops_per_second"), number("peak_flops_per_second"));
    assert!((number("mfu") - reached / peak).abs() < 1e-9);
    assert!(number("tokens_per_second") > 0.0 && number("data_wait_seconds") >= 0.0);
    let (again, _) = run(&space, &["--force", "base"]);
    assert_eq!(again["status"], "ran");
    assert_eq!(again["digest"], stage["digest"]);
}

#[test]
fn devices_tell_what_they_can_and_why_not() {
    let list = tiny().json(&["devices"]);
    let of =
        |name: &str| list.as_array().expect("a list").iter().find(|info| info["device"] == name).expect("a device");
    let cpu = of("cpu");
    assert_eq!(
        (&cpu["usable"], &cpu["precision"]),
        (&json!(true), &json!({"f32": true, "mixed": true, "bf16": true, "f16": true}))
    );
    for name in ["cuda:0", "vulkan", "wgpu", "metal"] {
        let info = of(name);
        assert!(info["usable"] == true || info["note"].as_str().is_some_and(|note| !note.is_empty()), "{info}");
    }
}

#[test]
fn bench_times_steps_of_a_tiny_model() {
    let space = Space::new();
    let measured = space.json(&["bench", "--device", "cpu", "--shape", "tiny", "--steps", "2", "--precision", "mixed"]);
    assert_eq!((&measured[0]["device"], &measured[0]["precision"]), (&json!("cpu"), &json!("mixed")));
    for name in ["tokens_per_second", "flops_per_second", "mfu", "loss"] {
        assert!(measured[0][name].as_f64().is_some_and(|number| number > 0.0), "{name}: {measured}");
    }
    let output = space.pipe(&["bench", "--shape", "huge"]);
    assert_eq!(output.status, 2);
    assert!(output.stderr.contains("no shape `huge`; there are `small`"), "{}", output.stderr);
}
