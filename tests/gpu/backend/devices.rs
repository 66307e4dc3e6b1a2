//! What devices can is listed and measured, and what they can't is refused; one that never answers is given up.

#[cfg(feature = "vulkan")]
use std::process::Stdio;

use pipe::spec;

use super::{
    gpus,
    recipes::{FAMILIES, RECIPE, assert_losses_of_the_cpu, curves, filled, pretrained},
};
use crate::common::tiny;
#[cfg(feature = "vulkan")]
use crate::common::{
    Space, await_that, ended, finish, need,
    needs::{Need, Needed},
};

/// Precisions that a device has give the CPU's losses, up to their rounding; those that it hasn't are refused before
/// anything runs.
#[test]
fn precisions_train_or_are_refused_at_plan_time() {
    for (device, gpu) in gpus() {
        for precision in [spec::Precision::F16, spec::Precision::Bf16, spec::Precision::Mixed] {
            let name = precision.name();
            let space = tiny();
            let recipe = RECIPE[..RECIPE.find("  judge:").expect("the first model")].to_owned()
                + "  base:\n    pretrain: { tokens: tokens, model: MODEL, train: TRAIN, objectives: [{ masked_lm: {} }] }\n";
            let recipe = filled(&recipe).replace("steps: 10,", &format!("steps: 10, precision: {name},"));
            space.write("recipe.yaml", recipe);
            if let Err(reason) = gpu.check_precision(precision) {
                let output = space.pipe(&["run", "recipe.yaml", "--device", device]);
                assert_eq!(output.status, 2, "{}", output.stderr);
                assert!(output.stderr.contains(&reason.to_string()), "{}", output.stderr);
                eprintln!("{device} refuses {name}: {reason}");
                continue;
            }
            let (expected, found) = (curves(&space, "cpu"), curves(&space, device));
            for ([loss, _], [gpu_loss, _]) in expected[0].1.iter().zip(&found[0].1) {
                assert!((loss - gpu_loss).abs() < 2e-2, "{name}: loss {gpu_loss} instead of {loss}");
            }
        }
    }
}

/// Weights that an adapter stands on are held in fewer bits, and give the CPU's losses, or are refused before anything runs.
#[test]
fn frozen_weights_are_held_in_each_form_or_refused_at_plan_time() {
    for (device, _) in gpus() {
        for form in spec::WeightForm::ALL.map(spec::WeightForm::name) {
            let space = tiny();
            let adapter = format!("{{ lora: {{ r: 2, targets: [c_attn], weights: {form} }} }}");
            let tuned = "  tuned:\n    finetune: { from: gpt2, adapter: ADAPTER, data: DATA, \
                         task: { classification: { TASK } }, train: TRAIN }\n"
                .replace("ADAPTER", &adapter);
            // GPT-2 answers at the end.
            let tuned = filled(&tuned).replace("[Classification]。", "[Classification]");
            let recipe = pretrained(&FAMILIES[1..2], 1).replace("hidden: 16", "hidden: 32") + &tuned;
            space.write("recipe.yaml", recipe);
            let output = space.pipe(&["run", "recipe.yaml", "--device", device, "--store", device]);
            if output.status == 2 {
                let why = format!("weights can't be held in {form} there: ");
                assert!(form != "f32" && output.stderr.contains(&why), "{}", output.stderr);
                assert!(output.stderr.contains(&format!("weights: {form}")), "a caret: {}", output.stderr);
                eprintln!("{device} refuses {form}");
                continue;
            }
            assert_eq!(output.status, 0, "{form}: {}", output.stderr);
            let losses =
                |device| curves(&space, device).into_iter().find(|(name, _)| name == "tuned").expect("a curve").1;
            for ([found, _], [expected, _]) in losses(device).iter().zip(losses("cpu")) {
                assert!((found - expected).abs() < 1e-3, "{form}: {found} instead of {expected}");
            }
        }
    }
}

#[test]
fn devices_are_listed_with_what_they_can() {
    let list = tiny().json(&["devices"]);
    for (device, _) in gpus() {
        let name = if device == "cuda" { "cuda:0" } else { device };
        let found = list.as_array().expect("a list").iter().find(|info| info["device"] == name).expect("the device");
        assert_eq!((&found["usable"], &found["precision"]["f32"]), (&true.into(), &true.into()), "{found}");
        assert!(found["hardware"].is_string(), "{found}");
    }
}

#[test]
fn bench_times_a_device() {
    for (device, _) in gpus() {
        let measured = tiny().json(&["bench", "--device", device, "--shape", "tiny", "--steps", "2"]);
        assert!(measured[0]["tokens_per_second"].as_f64().is_some_and(|rate| rate > 0.0), "{measured}");
    }
}

/// The layer of tests/vulkan, to stand between a program and a driver.
#[cfg(feature = "vulkan")]
fn vulkan_layer(space: &Space) -> Needed<std::path::PathBuf> {
    let source = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/vulkan");
    let folder = space.path().join("layer");
    std::fs::create_dir(&folder).expect("a directory");
    std::fs::copy(source.join("layer.json"), folder.join("layer.json")).expect("a copy");
    let mut cc = std::process::Command::new("cc");
    cc.args(["-O1", "-shared", "-fPIC", "-fvisibility=hidden", "-o"]).arg(folder.join("liblayer.so"));
    match cc.arg(source.join("layer.c")).output() {
        Ok(output) if output.status.success() => Ok(folder),
        Ok(output) => Err(Need::Layer.unmet(String::from_utf8_lossy(&output.stderr))),
        Err(error) => Err(Need::Layer.unmet(error)),
    }
}

/// A driver that never answers is given up: the process that waits for it is ended, and the next run goes on from the state.
#[cfg(feature = "vulkan")]
#[test]
fn driver_that_hangs_costs_a_process_and_no_state() {
    let Some((device, _)) = gpus().into_iter().find(|(name, _)| *name != "cuda") else { return };
    let space = tiny();
    let layer = need!(vulkan_layer(&space));
    let recipe = pretrained(&FAMILIES[1..2], 1).replace("steps: 10,", "steps: 60, checkpoint_every: 5, log_every: 1,");
    space.write("recipe.yaml", recipe);
    // It has a state too, for a moment.
    space.json(&["run", "recipe.yaml", "--stage", "tokens", "--store", "store"]);
    let hangs = space.path().join("hangs");
    let run = ["run", "recipe.yaml", "--device", device, "--store", "store"];
    let mut command = space.command(&run);
    command.env("VK_LAYER_PATH", &layer).env("VK_INSTANCE_LAYERS", "VK_LAYER_PIPE_test");
    command.env("LAYER_HANGS", &hangs).env("PIPE_PATIENCE", "60");
    let child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("a process");
    await_that("a state is saved", || has_state(&space.path().join("store")));
    std::fs::write(&hangs, "").expect("a file");
    let output = ended(child);
    assert_eq!(output.status, 1, "{}", output.stderr);
    assert!(output.stderr.contains("nothing was heard of the device for 60 s"), "{}", output.stderr);

    let output = space.pipe(&run);
    assert_eq!(output.status, 0, "{}", output.stderr);
    assert!(output.stderr.contains("gpt2: resumes from the last checkpoint, after step "), "{}", output.stderr);
}

/// A card without memory for a batch computes it in parts, to the same losses.
#[cfg(feature = "vulkan")]
#[test]
fn lack_of_memory_divides_batches() {
    let Some((device, gpu)) = gpus().into_iter().find(|(name, _)| *name != "cuda") else { return };
    let space = tiny();
    let layer = need!(vulkan_layer(&space));
    let document = |number: usize| {
        (0..40).map(|at| ['天', '地', '玄', '黄', '宇', '宙'][(at * at + number) % 6]).collect::<String>()
    };
    space.write("corpus.txt", (0..400).map(|number| document(number) + "。\n").collect::<String>());
    let recipe =
        pretrained(&FAMILIES[1..2], 1).replace("hidden: 16", "hidden: 32").replace("max_length: 32", "max_length: 48");
    let recipe = recipe.replace("{ examples: 4 }", "{ examples: 32 }, micro_batch: auto, log_every: 1");
    space.write("recipe.yaml", recipe.replace("steps: 10,", "steps: 2,"));
    let mut command = space.command(&["run", "recipe.yaml", "--device", device, "--store", device]);
    command.env("VK_LAYER_PATH", &layer).env("VK_INSTANCE_LAYERS", "VK_LAYER_PIPE_test");
    // As a whole a batch takes 85 MB of SwiftShader by SPIR-V, and half of it 51. By WGSL training takes between 350 and 400, in larger
    // blocks; with half as much as here wgpu at times doesn't live to say what it lacked.
    command.env("LAYER_MEMORY", if gpu.keeps_kernels { "64000000" } else { "250000000" });
    let output = finish(command);
    assert!(output.stderr.contains("fit into the device's memory"), "{}", output.stderr);
    if !gpu.keeps_kernels && output.status == 1 {
        // What wgpu has no memory for may be what has to be there at any size.
        assert!(output.stderr.contains("error: a step doesn't fit into the device's memory"), "{}", output.stderr);
        return;
    }
    assert_eq!(output.status, 0, "{}", output.stderr);
    assert_losses_of_the_cpu(&space, device, 2);
}

/// Whether a training has saved a state in this store.
#[cfg(feature = "vulkan")]
fn has_state(store: &std::path::Path) -> bool {
    let Ok(kept) = std::fs::read_dir(store.join("tmp")) else { return false };
    kept.flatten().any(|kept| {
        kept.path().extension().is_some_and(|end| end == "state") && kept.path().join("state.json").exists()
    })
}
