//! A kernel that gives NaN in the middle of a training is found, and gone round.

use super::{
    gpus,
    recipes::{FAMILIES, assert_losses_of_the_cpu, computed_on, pretrained, record},
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
        let record = record(&space, device, "bert");
        let name = computed_on(&record);
        assert!(name.contains("without kernels of pipe's own: the loss and the gradient of"), "{name}");
        assert_losses_of_the_cpu(&space, device, 10);
    }
}

#[test]
fn nan_that_does_not_come_again_is_told_and_costs_no_kernels() {
    for (device, _) in gpus() {
        let (space, output) = run(device, &format!("{FAULT}:1"));
        assert_eq!(output.status, 0, "{}", output.stderr);
        assert!(output.stderr.contains("step 6 was finite the second time"), "{}", output.stderr);
        let record = record(&space, device, "bert");
        let name = computed_on(&record);
        assert!(!name.contains("without kernels"), "{name}");
    }
}
