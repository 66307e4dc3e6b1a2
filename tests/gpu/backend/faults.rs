//! A kernel that gives NaN in the middle of a training is found, and gone round.

use serde_json::Value;

use super::{
    gpus,
    recipes::{FAMILIES, curves, pretrained},
};
use crate::common::{Output, Space, finish, tiny};

/// Norms are ten a step in four layers of BERT's and its head, and two in a trial of the kernels. So a training's first five
/// steps are good, and a state is saved after the fourth.
const FAULT: &str = "layer_norm:57";

/// A recipe of BERT's, and how the run went on a device with this fault.
fn run(device: &str, fault: &str) -> (Space, Output) {
    let space = tiny();
    let recipe = pretrained(&FAMILIES[..1], 4).replace("steps: 10,", "steps: 10, checkpoint_every: 2, log_every: 1,");
    space.write("recipe.yaml", recipe);
    let mut command = space.command(&["run", "recipe.yaml", "--device", device, "--store", device]);
    command.env("PIPE_FAULT", fault);
    let output = finish(command);
    (space, output)
}

/// What the record says that it was computed on; it's a hit by now.
fn computed_on(space: &Space, device: &str) -> String {
    let result = space.json(&["run", "recipe.yaml", "--device", device, "--store", device]);
    let place = result["stages"]["bert"]["path"].as_str().expect("a path");
    let record: Value = serde_json::from_str(&space.read(&format!("{place}/artifact.json"))).expect("a record");
    record["provenance"]["device"].as_str().expect("a device").to_owned()
}

#[test]
fn a_kernel_that_gives_nan_is_named_and_the_training_goes_on_without_kernels() {
    for (device, _) in gpus() {
        let (space, output) = run(device, FAULT);
        assert_eq!(output.status, 0, "{}", output.stderr);
        for part in [
            "is not finite at step 6 (",
            "computed again, with a look at what each kernel gives",
            "bert: resumes from the last checkpoint, after step 4",
            "are not finite at step 5 (",
            "the loss and the gradient of `",
            "; the kernel of `layer_norm` made them out of finite ones",
            "computed again, by burn's operations in the place of kernels",
        ] {
            assert!(output.stderr.contains(part), "`{part}` is missing in {}", output.stderr);
        }
        let name = computed_on(&space, device);
        assert!(name.contains("without kernels of pipe's own: the loss and the gradient of"), "{name}");
        let [found, expected] = [device, "cpu"].map(|device| curves(&space, device)[0].1.clone());
        assert_eq!(found.len(), 10);
        for (step, ([found, _], [expected, _])) in (1..).zip(found.iter().zip(&expected)) {
            assert!((found - expected).abs() < 1e-3, "step {step}: {found} instead of {expected}");
        }
    }
}

#[test]
fn nan_that_does_not_come_again_is_told_and_costs_no_kernels() {
    for (device, _) in gpus() {
        let (space, output) = run(device, &format!("{FAULT}:1"));
        assert_eq!(output.status, 0, "{}", output.stderr);
        assert!(output.stderr.contains("step 6 was finite the second time"), "{}", output.stderr);
        let name = computed_on(&space, device);
        assert!(!name.contains("without kernels"), "{name}");
    }
}
