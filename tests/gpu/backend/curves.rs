//! Recipes have the curves of the CPU.

use super::{
    gpus,
    recipes::{FAMILIES, RECIPE, curves, filled, pretrained},
};
use crate::common::{Space, tiny};

/// What makes the main recipe tiny.
const SMALLER: [(&str, &str); 8] = [
    ("--var", "hidden=16"),
    ("--var", "layers=1"),
    ("--set", "stages.encoder.train.epochs=1"),
    ("--set", "stages.encoder.train.batch.tokens=512"),
    ("--set", "stages.generator.train.epochs=1"),
    ("--set", "stages.generator.train.batch.tokens=512"),
    ("--set", "stages.topics.train.epochs=1"),
    ("--set", "stages.topics.train.batch.examples=16"),
];

/// The header and so many lines of a file, from all over it.
fn thinned(path: &str, lines: usize) -> String {
    let text = std::fs::read_to_string(path).expect("the embedded data");
    let all: Vec<&str> = text.lines().collect();
    // The corpus has no header, and loses nothing by a line twice.
    let kept = all[..1].iter().chain(all[1..].iter().step_by(all.len() / lines));
    kept.map(|line| format!("{line}\n")).collect()
}

/// Fails unless all steps have the losses and norms that the CPU gives.
fn assert_same_curves(space: &Space, device: &str, stages: usize) {
    let (expected, found) = (curves(space, "cpu"), curves(space, device));
    assert_eq!(expected.len(), stages, "{expected:?}");
    assert_eq!(found.len(), stages, "{found:?}");
    for ((name, expected), (_, found)) in expected.iter().zip(&found) {
        assert_eq!((expected.len(), found.len()), (10, 10), "{name}");
        for (step, ([loss, norm], [gpu_loss, gpu_norm])) in (1..).zip(expected.iter().zip(found)) {
            assert!((loss - gpu_loss).abs() < 1e-3, "{name}, step {step}: loss {gpu_loss} instead of {loss}");
            assert!((norm - gpu_norm).abs() < 1e-2, "{name}, step {step}: norm {gpu_norm} instead of {norm}");
        }
    }
}

#[test]
fn ten_steps_of_every_objective_have_the_losses_of_the_cpu() {
    for (device, _) in gpus() {
        let space = tiny();
        space.write("recipe.yaml", filled(RECIPE));
        assert_same_curves(&space, device, 5);
    }
}

#[test]
fn ten_steps_of_every_family_have_the_losses_of_the_cpu() {
    for (device, _) in gpus() {
        let space = tiny();
        space.write("recipe.yaml", pretrained(&FAMILIES, 1));
        assert_same_curves(&space, device, FAMILIES.len());
    }
}

#[test]
fn ten_steps_with_ngrams_have_the_losses_of_the_cpu() {
    for (device, _) in gpus() {
        let space = tiny();
        let ngrams = "max_length: 48, ngrams: { buckets: 500, width: 4 } }";
        space.write("recipe.yaml", pretrained(&FAMILIES, 1).replace("max_length: 48 }", ngrams));
        assert_same_curves(&space, device, FAMILIES.len());
    }
}

#[test]
fn ten_steps_with_layers_that_are_computed_again_have_the_losses_of_the_cpu() {
    for (device, _) in gpus() {
        let space = tiny();
        let recipe = pretrained(&[FAMILIES[1], FAMILIES[5]], 2);
        space.write("recipe.yaml", recipe.replace("steps: 10,", "steps: 10, gradient_checkpointing: true,"));
        assert_same_curves(&space, device, 2);
    }
}

#[test]
fn tiny_variant_of_the_main_recipe_runs_through() {
    for (device, _) in gpus() {
        let space = tiny();
        let data = space.path().join("data");
        std::fs::create_dir(&data).expect("a directory");
        for (file, lines) in [("corpus.txt", 60), ("train.tsv", 40), ("dev.tsv", 8), ("test.tsv", 12)] {
            let path = concat!(env!("CARGO_MANIFEST_DIR"), "/recipes/data/").to_owned() + file;
            let mut text = thinned(&path, lines);
            if file == "corpus.txt" {
                // In so few texts a character of a label's word may be missing, or too rare to be a token.
                text.push_str(&"\n体育、健康、娱乐、教育、旅行、科技、美食、财经。\n".repeat(3));
            }
            std::fs::write(data.join(file), text).expect("a file");
        }
        let recipe = concat!(env!("CARGO_MANIFEST_DIR"), "/recipes/chatglm_cls.yaml");
        let data = format!("data={}", data.display());
        let mut arguments = vec!["run", recipe, "--device", device, "--store", device, "--var", &data];
        SMALLER.iter().for_each(|(flag, change)| arguments.extend([*flag, *change]));
        let result = space.json(&arguments);
        for (name, stage) in result["stages"].as_object().expect("stages") {
            assert_eq!(stage["status"], "ran", "{name}: {stage}");
        }
    }
}
