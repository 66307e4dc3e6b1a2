//! Adapters in recipes: what is trained, what stays, what is stored, and that it's found again.

use crate::common;
use std::{collections::BTreeMap, path::PathBuf};

use burn::tensor::{Device, Tensor, TensorData};
use common::{Space, TINY, tiny};
use pipe::{
    network::{
        batch::{Batch, SlotRange, Target},
        model::{Counts, LossSettings, Network, WeightRole},
    },
    spec::{self, WeightForm},
};
use safetensors::{Dtype, SafeTensors};
use serde_json::{Value, json};

const LORA: &str = "      adapter: { lora: { r: 4, alpha: 8, targets: [query_key_value, mlp.dense_h_to_4h] } }\n";

/// The tiny recipe with an adapter in its finetune stage.
fn adapted(adapter: &str) -> Space {
    let space = tiny();
    space.write("recipe.yaml", recipe(adapter));
    space
}

fn recipe(adapter: &str) -> String {
    TINY.replace("      from: base\n", &format!("      from: base\n{adapter}"))
}

fn artifact(space: &Space, result: &Value, stage: &str) -> PathBuf {
    space.path().join(".pipe/artifacts").join(result["stages"][stage]["key"].as_str().expect("a key"))
}

/// The tensors of a file: type and bytes by name.
fn tensors(path: PathBuf) -> BTreeMap<String, (Dtype, Vec<u8>)> {
    let bytes = std::fs::read(path).expect("a file of tensors");
    let tensors = SafeTensors::deserialize(&bytes).expect("safetensors");
    let tensor =
        |(name, view): (&str, safetensors::tensor::TensorView)| (name.to_owned(), (view.dtype(), view.data().to_vec()));
    tensors.iter().map(tensor).collect()
}

fn network(family: &str) -> Network {
    let model = json!({ family: { "hidden": 16, "layers": 2, "heads": 2, "max_length": 32 } });
    let model: spec::Model = serde_json::from_value(model).unwrap();
    Network::new(&model, 24, 1, &Device::flex()).unwrap()
}

fn adapter(settings: Value) -> spec::Adapter {
    serde_json::from_value(settings).unwrap()
}

/// Two examples in which each token sees those before it.
fn batch() -> Batch {
    let width = 8;
    Batch {
        rows: 1,
        width: 2 * width,
        tokens: (0..16).map(|token| token * 7 % 24).collect(),
        positions: (0..16).map(|at| at % 8).collect(),
        block_positions: vec![0; 16],
        span_starts: (0..16).map(|at| at / 8 * 8).collect(),
        span_ends: (1..=16).collect(),
        dropout_keys: (0..16).collect(),
        examples: [0, 8].map(|start| SlotRange { start, length: 8 }).into(),
        targets: (0..15).map(|at| Target { at, token: (at * 5) % 24 }).collect(),
        ..Batch::default()
    }
}

fn logits(network: &Network) -> Vec<f32> {
    network.logits_at(&batch(), &(0..16).collect::<Vec<_>>()).unwrap().concat()
}

fn furthest(a: &[f32], b: &[f32]) -> f32 {
    a.iter().zip(b).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max)
}

#[test]
fn a_new_lora_changes_nothing_and_only_its_factors_have_gradients() {
    for (family, target) in [("glm", "query_key_value"), ("gpt2", "c_attn"), ("bert", "value")] {
        let stored = tempfile::tempdir().unwrap();
        let whole = network(family);
        whole.save(stored.path()).unwrap();
        let mut frozen = Network::load_frozen(stored.path(), WeightForm::F32, &Device::flex()).unwrap();
        frozen.adapt(&adapter(json!({ "lora": { "r": 2, "targets": [target] } })), 3).unwrap();
        assert_eq!(logits(&frozen), logits(&whole), "{family}");

        let settings = LossSettings { dropout: 0.1, ..LossSettings::default() };
        let batch = batch();
        let found = frozen.loss(&batch, &Counts::of(&batch), 1.0, &settings).unwrap().backward();
        let parameters = frozen.parameters();
        let with: Vec<_> = parameters.iter().filter(|parameter| parameter.value.grad(&found).is_some()).collect();
        assert_eq!(with.len(), 4, "A and B in two layers of {family}");
        assert!(with.iter().all(|matrix| matrix.name.starts_with("base_model.model.") && matrix.is_trainable()));
        assert!(with.iter().all(|matrix| matrix.role == WeightRole::Adapter && matrix.shape().len() == 2));
        let count: usize = with.iter().map(|matrix| matrix.value.elements()).sum();
        assert_eq!(frozen.parameters().trainable(), count);
    }
}

#[test]
fn adapters_come_back_as_they_were_and_merge_into_the_same_numbers() {
    for (family, target) in [("glm", "mlp.dense_4h_to_h"), ("gpt2", "c_fc"), ("bert", "query")] {
        let (base, stored) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        network(family).save(base.path()).unwrap();
        let mut network = Network::load_frozen(base.path(), WeightForm::F32, &Device::flex()).unwrap();
        network.adapt(&adapter(json!({ "lora": { "r": 3, "targets": [target] } })), 3).unwrap();
        for matrix in network.parameters_mut().iter_mut().filter(|matrix| matrix.name.contains("lora_B")) {
            let shape = matrix.shape();
            // Not the same for all rows: norms would take it out again.
            let values = (0..shape[0] * shape[1]).map(|at| (at as f32).sin()).collect();
            matrix.set(Tensor::<2>::from_data(TensorData::new::<f32, _>(values, shape), &Device::flex()));
        }
        assert!(furthest(&logits(&network), &logits(&Network::load(base.path(), &Device::flex()).unwrap())) > 1e-4);
        network.save_beside(base.path(), stored.path()).unwrap();
        assert_eq!(logits(&Network::load(stored.path(), &Device::flex()).unwrap()), logits(&network), "{family}");
        let merged = Network::load_merged(stored.path(), &Device::flex()).unwrap();
        assert!(furthest(&logits(&merged), &logits(&network)) < 1e-5, "{family}");
        let again = tempfile::tempdir().unwrap();
        merged.save(again.path()).unwrap();
        let (old, new) = (base.path().join("model.safetensors"), again.path().join("model.safetensors"));
        let (old, new) = (tensors(old), tensors(new));
        assert_eq!(old.keys().collect::<Vec<_>>(), new.keys().collect::<Vec<_>>());
        let changed: Vec<_> =
            old.iter().filter(|(name, tensor)| new[*name] != **tensor).map(|(name, _)| name).collect();
        assert_eq!(changed.len(), 2, "{changed:?}");
        assert!(changed.iter().all(|name| name.ends_with(&format!("{target}.weight"))), "{changed:?}");
    }
}

#[test]
fn a_prefix_is_seen_by_all_tokens_and_is_all_that_learns() {
    for family in ["glm", "gpt2", "bert"] {
        let (base, stored) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        network(family).save(base.path()).unwrap();
        let mut network = Network::load_frozen(base.path(), WeightForm::Bf16, &Device::flex()).unwrap();
        let before = logits(&network);
        network.adapt(&adapter(json!({ "p_tuning": { "tokens": 5, "dropout": 0.5 } })), 3).unwrap();
        let learned = network.parameters().iter().filter(|matrix| matrix.is_trainable());
        let learned: Vec<_> = learned.map(|matrix| (matrix.name.as_str(), matrix.shape())).collect();
        assert_eq!(learned, [("transformer.prefix_encoder.embedding.weight", vec![5, 2 * 2 * 16])]);
        let after = logits(&network);
        for (token, (before, after)) in before.chunks(24).zip(after.chunks(24)).enumerate() {
            assert!(furthest(before, after) > 0.0, "token {token} of {family}");
        }
        let settings = LossSettings::default();
        let batch = batch();
        let found = network.loss(&batch, &Counts::of(&batch), 1.0, &settings).unwrap().backward();
        let with = network.parameters().iter().filter(|matrix| matrix.value.grad(&found).is_some());
        assert_eq!(with.count(), 1);

        network.save(stored.path()).unwrap();
        let file = tensors(stored.path().join("adapter/adapter_model.safetensors"));
        assert_eq!(file.keys().collect::<Vec<_>>(), ["prompt_embeddings"]);
        assert_eq!(logits(&Network::load(stored.path(), &Device::flex()).unwrap()), after, "{family}");
        let error = Network::load_merged(stored.path(), &Device::flex()).err().unwrap().to_string();
        assert!(
            error.ends_with("has a prefix (P-tuning), which is no part of any weight and can't be merged"),
            "{error}"
        );
    }
}

#[test]
fn frozen_weights_stay_in_few_bits_in_memory_and_on_disk() {
    let base = tempfile::tempdir().unwrap();
    network("gpt2").save(base.path()).unwrap();
    let whole = tensors(base.path().join("model.safetensors"));
    for (dtype, kept) in [(WeightForm::Bf16, Dtype::BF16), (WeightForm::Int8, Dtype::I8)] {
        let stored = tempfile::tempdir().unwrap();
        let mut network = Network::load_frozen(base.path(), dtype, &Device::flex()).unwrap();
        network.adapt(&adapter(json!({ "lora": { "targets": ["c_attn"] } })), 3).unwrap();
        assert_eq!(network.parameters().compact.len(), 8, "four linear layers in two layers");
        network.save_beside(base.path(), stored.path()).unwrap();
        let found = tensors(stored.path().join("model.safetensors"));
        for name in whole.keys() {
            let linear = name.ends_with(".weight") && name.contains(".h.") && !name.contains(".ln_");
            assert_eq!(found[name].0, if linear { kept } else { Dtype::F32 }, "{name}");
        }
        let again = Network::load(stored.path(), &Device::flex()).unwrap();
        assert!(furthest(&logits(&again), &logits(&network)) < 1e-6, "{dtype:?}");
        let lost = furthest(&logits(&Network::load(base.path(), &Device::flex()).unwrap()), &logits(&network));
        assert!(lost > 0.0 && lost < 0.01, "{dtype:?}: {lost}");
    }
}

#[test]
fn targets_that_meet_no_layer_are_refused_with_the_names_there_are() {
    let stored = tempfile::tempdir().unwrap();
    network("bert").save(stored.path()).unwrap();
    let mut network = Network::load_frozen(stored.path(), WeightForm::F32, &Device::flex()).unwrap();
    let error = network.adapt(&adapter(json!({ "lora": { "targets": ["query", "query_key_value"] } })), 3);
    assert_eq!(
        error.unwrap_err().to_string(),
        "no linear layer of the model is called `query_key_value`; there are attention.output.dense, \
         attention.self.key, attention.self.query, attention.self.value, cls.predictions.transform.dense, \
         intermediate.dense, output.dense"
    );
}

#[test]
fn settings_of_an_adapter_that_are_not_known_are_refused_by_name() {
    let (base, stored) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    network("gpt2").save(base.path()).unwrap();
    let mut network = Network::load_frozen(base.path(), WeightForm::F32, &Device::flex()).unwrap();
    network.adapt(&adapter(json!({ "lora": { "targets": ["c_attn"] } })), 3).unwrap();
    network.save(stored.path()).unwrap();
    let path = stored.path().join("adapter/adapter_config.json");
    let config: Value = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
    let with = |field: &str, value: Value| {
        let mut config = config.clone();
        config[field] = value;
        std::fs::write(&path, config.to_string()).unwrap();
        Network::load(stored.path(), &Device::flex()).map(|_| ()).map_err(|error| format!("{error:#}"))
    };
    assert!(with("use_dora", json!(true)).unwrap_err().contains("use_dora true isn't supported"));
    assert!(with("peft_type", json!("IA3")).unwrap_err().contains("peft_type IA3 isn't supported; LORA"));
    assert!(with("something_new", json!({ "a": 1 })).unwrap_err().contains("something_new {\"a\":1} isn't supported"));
    assert_eq!(with("something_new", Value::Null), Ok(()));
}

#[test]
fn lora_in_a_recipe_leaves_the_base_to_the_byte_and_is_evaluated() {
    let space = adapted(LORA);
    let result = space.json(&["run", "recipe.yaml"]);
    let (base, topics) = (artifact(&space, &result, "base"), artifact(&space, &result, "topics"));
    let [old, new] = [&base, &topics].map(|path| std::fs::read(path.join("model.safetensors")).expect("weights"));
    assert!(old == new);
    let adapter = tensors(topics.join("adapter/adapter_model.safetensors"));
    assert_eq!(adapter.len(), 4);
    let factor = &adapter["base_model.model.transformer.layers.0.attention.query_key_value.lora_B.weight"].1;
    assert!(factor.iter().any(|&byte| byte != 0), "B has learned something");
    let metrics = &result["stages"]["topics"]["metrics"];
    assert_eq!(metrics["learned_parameters"], 4 * (16 + 48) + 4 * (16 + 64));
    assert!(result["stages"]["test"]["metrics"]["accuracy"].is_number());
    assert_eq!(space.statuses(&["recipe.yaml"]), "base=hit test=hit tokens=hit topics=hit");

    space.write("recipe.yaml", recipe(&LORA.replace("r: 4", "r: 5")));
    assert_eq!(space.statuses(&["recipe.yaml"]), "base=hit test=ran tokens=hit topics=ran");
}

#[test]
fn an_adapted_model_is_finetuned_again_and_with_a_head_of_its_own() {
    let head = recipe(LORA).replace("words:", "head: linear\n          words:");
    let again = "  again:\n    finetune:\n      from: topics\n";
    let tail = head[head.find("      from: base").unwrap()..head.find("  test:").unwrap()].to_owned();
    let tail = tail
        .replace("      from: base\n", "")
        .replace(LORA, "      adapter: { lora: { targets: [attention.dense], base_dtype: int8 } }\n");
    let space = tiny();
    space.write(
        "recipe.yaml",
        head.replace("  test:", &format!("{again}{tail}  test:")).replace("model: topics", "model: again"),
    );
    let result = space.json(&["run", "recipe.yaml"]);
    let names = |stage: &str| {
        let path = artifact(&space, &result, stage).join("adapter/adapter_model.safetensors");
        tensors(path).into_keys().collect::<Vec<_>>()
    };
    assert_eq!(
        names("again"),
        [
            "base_model.model.classifier.bias",
            "base_model.model.classifier.weight",
            "base_model.model.transformer.layers.0.attention.dense.lora_A.weight",
            "base_model.model.transformer.layers.0.attention.dense.lora_B.weight"
        ]
    );
    assert_eq!(names("topics").len(), 6);
    assert!(result["stages"]["test"]["metrics"]["accuracy"].is_number());
}

#[test]
fn an_adapter_goes_on_from_a_checkpoint_that_holds_no_frozen_weight() {
    let space = adapted(LORA);
    let recipe = recipe(LORA).replace("epochs: 2,", "epochs: 2, checkpoint_every: 1,");
    space.write("recipe.yaml", &recipe);
    let expected = space.json(&["run", "recipe.yaml"])["stages"]["topics"]["digest"].clone();
    let whole = adapted(LORA);
    assert_eq!(whole.json(&["run", "recipe.yaml"])["stages"]["topics"]["digest"], expected);
}

#[test]
fn an_adapter_needs_a_model_to_start_from() {
    let space = tiny();
    let recipe = TINY.replace("      model: {", "      adapter: { p_tuning: {} }\n      model: {");
    space.write("recipe.yaml", recipe);
    let output = space.pipe(&["check", "recipe.yaml"]);
    assert_eq!(output.status, 2);
    assert!(output.stderr.contains("an adapter needs a model that exists"), "{}", output.stderr);
    assert!(output.stderr.contains("recipe.yaml:11:7"), "{}", output.stderr);
}
