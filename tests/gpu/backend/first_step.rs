//! What backends compile, tune and fuse of themselves: it's kept for the next process, and left out where it goes wrong.

use super::{
    gpus,
    recipes::{FAMILIES, assert_losses_of_the_cpu, computed_on, pretrained, record},
};
use crate::common::{Space, finish, tiny};

/// A recipe of GPT-2's.
fn recipe() -> Space {
    let space = tiny();
    space.write("recipe.yaml", pretrained(&FAMILIES[1..2], 1));
    space
}

#[test]
fn kernels_are_compiled_by_the_first_process_only() {
    for (device, gpu) in gpus() {
        let space = recipe();
        let trained = |more: &[&str]| {
            let run = [&["run", "recipe.yaml", "--device", device, "--store", device], more].concat();
            let output = space.pipe(&run);
            assert_eq!(output.status, 0, "{}", output.stderr);
            let metrics = &record(&space, device, "gpt2")["metrics"];
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
        let (space, families) = (tiny(), &FAMILIES[..2]);
        space.write("recipe.yaml", pretrained(families, 1));
        let mut command = space.command(&["run", "recipe.yaml", "--device", device, "--store", device]);
        // Software drivers are only given fused operations where somebody asks for them.
        command.env("PIPE_FUSION", "1").env("PIPE_FAULT", FAULT);
        let output = finish(command);
        assert_eq!(output.status, 0, "{}", output.stderr);
        assert!(output.stderr.contains("without fusion it's right, and so it's trained"), "{}", output.stderr);
        // What is found out of one family isn't wrong of the next.
        assert!(!output.stderr.contains("autotune"), "{}", output.stderr);
        for (family, _) in families {
            let record = record(&space, device, family);
            let name = computed_on(&record);
            assert!(name.contains("without fusion") && !name.contains("without autotune"), "{name}");
        }
        assert_losses_of_the_cpu(&space, device, 10);
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
        let record = record(&space, device, "gpt2");
        let name = computed_on(&record);
        assert!(name.contains("without fusion, without autotune"), "{name}");
        assert_eq!(run(&[])["stages"]["gpt2"]["key"], kept["stages"]["gpt2"]["key"]);
        assert_losses_of_the_cpu(&space, device, 10);
    }
}
