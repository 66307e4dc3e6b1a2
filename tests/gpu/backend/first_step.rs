//! What backends compile, tune and fuse of themselves: it's kept for the next process, and left out where it goes wrong.

use serde_json::Value;

use super::{
    gpus,
    recipes::{FAMILIES, curves, pretrained},
};
use crate::common::{Space, finish, tiny};

/// A recipe of GPT-2's.
fn recipe() -> Space {
    let space = tiny();
    space.write("recipe.yaml", pretrained(&FAMILIES[1..2], 1));
    space
}

/// The record of its training, which is a hit by now.
fn record(space: &Space, device: &str) -> Value {
    let result = space.json(&["run", "recipe.yaml", "--device", device, "--store", device]);
    let place = result["stages"]["gpt2"]["path"].as_str().expect("a path");
    serde_json::from_str(&space.read(&format!("{place}/artifact.json"))).expect("a record")
}

/// Losses on the device and on the CPU are the same, step by step.
fn assert_same_losses(space: &Space, device: &str) {
    let [found, expected] = [device, "cpu"].map(|device| curves(space, device)[0].1.clone());
    assert_eq!(found.len(), 10);
    for (step, ([found, _], [expected, _])) in (1..).zip(found.iter().zip(&expected)) {
        assert!((found - expected).abs() < 1e-3, "step {step}: {found} instead of {expected}");
    }
}

#[test]
fn kernels_are_compiled_by_the_first_process_only() {
    for (device, gpu) in gpus() {
        let space = recipe();
        let trained = |more: &[&str]| {
            let run = [&["run", "recipe.yaml", "--device", device, "--store", device], more].concat();
            let output = space.pipe(&run);
            assert_eq!(output.status, 0, "{}", output.stderr);
            let metrics = &record(&space, device)["metrics"];
            ["kernels_compiled", "kernels_tuned"].map(|name| metrics[name].as_u64())
        };
        let cold = trained(&[]);
        let warm = trained(&["--force", "gpt2"]);
        eprintln!("{device}: compiled and tuned {cold:?}, and then {warm:?}");
        // What a driver makes of a text nobody knows.
        assert_eq!(cold[0].is_some(), gpu.keeps_kernels);
        assert!(cold[0] != Some(0) && cold[1].is_some_and(|tuned| tuned > 0), "{cold:?}");
        assert_eq!(warm, [cold[0].map(|_| 0), Some(0)]);
    }
}

/// Two norms are computed by the kernels' trial, three a step by the tiny model: its first loss isn't a number.
const FAULT: &str = "fused/layer_norm:3";

#[test]
fn what_goes_wrong_with_fusion_is_trained_without() {
    for (device, _) in gpus() {
        let space = recipe();
        let mut command = space.command(&["run", "recipe.yaml", "--device", device, "--store", device]);
        // Software drivers are only given fused operations where somebody asks for them.
        command.env("PIPE_FUSION", "1").env("PIPE_FAULT", FAULT);
        let output = finish(command);
        assert_eq!(output.status, 0, "{}", output.stderr);
        assert!(output.stderr.contains("without fusion it's right, and so it's trained"), "{}", output.stderr);
        let record = record(&space, device);
        let name = record["provenance"]["device"].as_str().expect("a device");
        assert!(name.contains("without fusion"), "{name}");
        assert_same_losses(&space, device);
    }
}

#[test]
fn what_goes_wrong_in_other_ways_too_is_refused() {
    for (device, _) in gpus() {
        let space = recipe();
        let mut command = space.command(&["run", "recipe.yaml", "--device", device, "--store", device]);
        command.env("PIPE_FUSION", "1").env("PIPE_FAULT", FAULT.replace("fused/", ""));
        let output = finish(command);
        assert_eq!(output.status, 2, "{}", output.stderr);
        assert!(output.stderr.contains("a tiny `gpt2` in f32 has "), "{}", output.stderr);
        assert!(output.stderr.contains("recipe.yaml:"), "a caret: {}", output.stderr);
    }
}

#[test]
fn recipes_keep_backends_from_fusing_and_tuning_and_their_keys() {
    for (device, _) in gpus() {
        let space = recipe();
        let run = |more: &[&str]| {
            space.json(&[&["run", "recipe.yaml", "--device", device, "--store", device], more].concat())
        };
        let kept = run(&["--set", "gpu.fusion=false", "--set", "gpu.autotune=false"]);
        let name = record(&space, device)["provenance"]["device"].as_str().expect("a device").to_owned();
        assert!(name.contains("without fusion, without autotune"), "{name}");
        assert_eq!(run(&[])["stages"]["gpt2"]["key"], kept["stages"]["gpt2"]["key"]);
        assert_same_losses(&space, device);
    }
}
