//! Layers whose activations are computed again learn byte for byte what they would have learned, in less memory.

use crate::common;
use std::path::Path;

use burn::tensor::Device;
use common::{Space, TINY, tiny};
use pipe::{
    network::{
        batch::{Batch, SlotRange, Target},
        model::{Counts, LossSettings, Network},
    },
    spec::{self, Precision, WeightForm},
};
use serde_json::{Value, json};

const FAMILIES: [&str; 7] = ["glm", "bert", "gpt2", "chatglm", "chatglm2", "glm4", "transformer"];

fn network(family: &str) -> Network {
    let model = json!({ family: { "hidden": 16, "layers": 3, "heads": 2, "max_length": 32 } });
    let model: spec::Model = serde_json::from_value(model).expect("a model");
    Network::new(&model, 24, 1, &Device::flex()).expect("a network")
}

/// Two examples of ten tokens that begin with a prefix of three.
fn batch() -> Batch {
    Batch {
        rows: 1,
        width: 20,
        tokens: (0..20).map(|token| token * 7 % 24).collect(),
        positions: (0..20).map(|at| at % 10).collect(),
        block_positions: vec![0; 20],
        span_starts: (0..20).map(|at| at / 10 * 10).collect(),
        span_ends: (0..20).map(|at| at / 10 * 10 + (at % 10 + 1).max(3)).collect(),
        dropout_keys: (0..20).map(|at| at * at + 5).collect(),
        examples: [0, 10].map(|start| SlotRange { start, length: 10 }).into(),
        targets: (0..20).filter(|at| at % 10 > 1).map(|at| Target { at, token: (at * 5) % 24 }).collect(),
        ..Batch::default()
    }
}

/// The loss, and each parameter's name with its gradient, in bits.
type Learned = (u32, Vec<(String, Option<Vec<u32>>)>);

fn learned(network: &mut Network, recompute: bool) -> Learned {
    network.recompute_layers(recompute);
    let settings = LossSettings { dropout: 0.2, label_smoothing: 0.1, ..LossSettings::default() };
    let batch = batch();
    let loss = network.loss(&batch, &Counts::of(&batch), 1.0, &settings).expect("a loss");
    let found = loss.backward();
    let bits = |values: Vec<f32>| values.into_iter().map(f32::to_bits).collect::<Vec<u32>>();
    let gradients = network.parameters().iter().map(|parameter| {
        let gradient = parameter.value.grad(&found).map(|gradient| gradient.into_data().expect("values"));
        (parameter.name.clone(), gradient.map(|gradient| bits(gradient.try_to_vec().expect("f32"))))
    });
    let gradients = gradients.collect();
    (loss.inner().into_scalar::<f32>().to_bits(), gradients)
}

#[track_caller]
fn assert_same(what: &str, network: &mut Network) {
    let (kept, recomputed) = (learned(network, false), learned(network, true));
    assert_eq!(recomputed.0, kept.0, "{what}: the loss");
    for ((name, found), (_, expected)) in recomputed.1.iter().zip(&kept.1) {
        assert!(found == expected, "{what}: the gradient of {name}");
    }
    assert!(kept.1.iter().any(|(_, gradient)| gradient.is_some()), "{what} learns");
    assert!(learned(network, true) == recomputed, "{what}, again");
}

#[test]
fn loss_and_gradients_of_every_family_are_the_same_bits() {
    for family in FAMILIES {
        let mut network = network(family);
        for precision in [Precision::F32, Precision::Bf16, Precision::F16, Precision::Mixed] {
            network.compute_with(precision);
            assert_same(&format!("{family} in {}", precision.name()), &mut network);
        }
    }
}

#[test]
fn adapters_in_frozen_layers_get_the_same_gradients() {
    let of = |targets: &[&str]| json!({ "lora": { "r": 2, "dropout": 0.1, "targets": targets } });
    let prefix = json!({ "p_tuning": { "tokens": 3, "dropout": 0.1 } });
    for (family, adapter) in [
        ("glm", of(&["query_key_value", "mlp.dense_h_to_4h"])),
        ("bert", of(&["query", "output.dense"])),
        ("transformer", of(&["v_proj", "fc2"])),
        ("chatglm", prefix.clone()),
        ("chatglm2", prefix.clone()),
        ("transformer", prefix),
    ] {
        let stored = tempfile::tempdir().expect("a directory");
        network(family).save(stored.path()).expect("a stored network");
        for base in [WeightForm::F32, WeightForm::Int8] {
            let mut frozen = Network::load_frozen(stored.path(), base, &Device::flex()).expect("a network");
            let adapter: spec::Adapter = serde_json::from_value(adapter.clone()).expect("an adapter");
            frozen.adapt(&adapter, 3).expect("an adapter that fits");
            assert_same(&format!("{adapter:?} on {family}"), &mut frozen);
        }
    }
}

/// The recipe with three layers, a constant rate and these settings.
fn recipe(family: &str, settings: &str) -> String {
    TINY.replace("{ glm: { hidden: 16, layers: 1,", &format!("{{ {family}: {{ hidden: 16, layers: 3,"))
        .replace("lr: 1.0e-3 }", &format!("lr: 1.0e-3, schedule: constant, {settings} }}"))
}

/// The weights and the optimiser's means that the trainings of a store left behind.
fn states(space: &Space) -> Vec<Vec<u8>> {
    fn files(directory: &Path, found: &mut Vec<Vec<u8>>) {
        let mut entries: Vec<_> = std::fs::read_dir(directory).into_iter().flatten().flatten().collect();
        entries.sort_by_key(|entry| entry.file_name());
        for path in entries.into_iter().map(|entry| entry.path()) {
            if path.is_dir() {
                files(&path, found);
            } else if path.extension().is_some_and(|extension| extension == "safetensors") {
                found.push(std::fs::read(path).expect("a file"));
            }
        }
    }
    let mut found = Vec::new();
    files(&space.path().join(".pipe/states"), &mut found);
    found
}

#[test]
fn trainings_end_with_the_same_bytes_and_the_same_key() {
    for settings in ["micro_batch: whole", "accumulate: 2, micro_batch: { tokens: 48 }, precision: f16"] {
        let run = |settings: &str| {
            let space = tiny();
            space.write("recipe.yaml", recipe("glm", settings));
            let result = space.json(&["run", "recipe.yaml", "--device", "cpu"]);
            let of = |stage: &str, field: &str| result["stages"][stage][field].clone();
            let told = ["base", "topics", "test"].map(|stage| [of(stage, "key"), of(stage, "digest")]);
            (told, states(&space))
        };
        let expected = run(settings);
        assert_eq!(expected.1.len(), 2);
        assert!(expected.0.iter().flatten().all(Value::is_string));
        let found = run(&format!("{settings}, gradient_checkpointing: true"));
        assert_eq!(found.0, expected.0);
        assert!(found.1 == expected.1, "the weights or the optimiser's means");
    }
}

#[test]
fn it_can_be_turned_on_for_a_training_that_was_begun_without() {
    let run = |space: &Space, steps: usize, on: bool| {
        let steps = format!("stages.base.train.steps={steps}");
        let on = format!("stages.base.train.gradient_checkpointing={on}");
        let arguments = ["run", "recipe.yaml", "--stage", "base", "--device", "cpu", "--set", &steps, "--set", &on];
        space.json(&arguments)["stages"]["base"]["digest"].clone()
    };
    let [halves, whole] = [tiny(), tiny()];
    for space in [&halves, &whole] {
        space.write("recipe.yaml", recipe("glm", "micro_batch: whole"));
    }
    run(&halves, 5, false);
    assert_eq!(run(&halves, 8, true), run(&whole, 8, false));
}
