//! LoRA gives PEFT's numbers: beside the weights, merged into them, and backwards.

use crate::common::{need, parity};
use std::path::Path;

use burn::tensor::Device;
use parity::{Tensors, fixture, furthest};
use pipe::{
    network::{
        batch::{Batch, SlotRange, Target},
        model::{CopyOptions, Counts, LossSettings, Network, copy},
    },
    spec::Dtype,
};
use serde_json::Value;

/// Rows of equal length without padding, in which each token is to be told from those before it.
fn batch(expected: &Tensors) -> Batch {
    let [rows, width] = expected.shape("input_ids")[..] else { panic!("rows of tokens") };
    let count = rows * width;
    let tokens = expected.integers("input_ids");
    let learned = (0..count).filter(|at| (at + 1) % width != 0);
    Batch {
        rows,
        width,
        positions: (0..count).map(|place| (place % width) as u32).collect(),
        block_positions: vec![0; count],
        span_starts: (0..count).map(|place| (place / width * width) as u32).collect(),
        span_ends: (1..=count as u32).collect(),
        dropout_keys: vec![0; count],
        examples: (0..rows).map(|row| SlotRange { start: (row * width) as u32, length: width as u32 }).collect(),
        targets: learned.map(|at| Target { at: at as u32, token: tokens[at + 1] }).collect(),
        tokens,
        ..Batch::default()
    }
}

#[track_caller]
fn check_logits(network: &Network, expected: &Tensors, name: &str) {
    let batch = batch(expected);
    let all: Vec<u32> = (0..batch.tokens.len() as u32).collect();
    let worst = furthest(&network.logits_at(&batch, &all).unwrap().concat(), &expected.floats(name));
    eprintln!("{name} differ by {worst:e}");
    assert!(worst < 1e-4, "{name}: {worst}");
}

fn load(directory: &Path) -> Network {
    Network::load(directory, &Device::flex()).unwrap()
}

#[test]
fn lora_parity_of_logits_beside_the_weights_and_merged_into_them() {
    let directory = need!(fixture("lora_gpt2"));
    let expected = Tensors::expected(&directory);
    check_logits(&load(&directory.join("base")), &expected, "base_logits");
    check_logits(&load(&directory.join("adapter")), &expected, "logits");
    check_logits(&load(&directory.join("merged")), &expected, "merged_logits");
    let merged = Network::load_merged(&directory.join("adapter"), &Device::flex()).unwrap();
    assert!(!merged.is_adapted());
    check_logits(&merged, &expected, "merged_logits");
}

#[test]
fn lora_parity_of_merged_weights() {
    let directory = need!(fixture("lora_gpt2"));
    let expected = Tensors::weights(&directory.join("merged"));
    let exported = tempfile::tempdir().unwrap();
    let options = CopyOptions { dtype: Dtype::Stored, most: u64::MAX, without: &[] };
    copy(&directory.join("adapter"), exported.path(), &options).unwrap();
    let found = Tensors::weights(exported.path());
    assert_eq!(found.all().len(), expected.all().len());
    for (name, tensor) in expected.all().iter() {
        assert_eq!(found.shape(name), tensor.shape(), "{name}");
        let worst = furthest(&found.floats(name), &expected.floats(name));
        assert!(worst < 1e-6, "{name}: {worst}");
    }
    check_logits(&load(exported.path()), &Tensors::expected(&directory), "merged_logits");
}

#[test]
fn lora_parity_of_loss_and_gradients() {
    let directory = need!(fixture("lora_gpt2"));
    let (expected, slopes) = (Tensors::expected(&directory), Tensors::read(&directory.join("lora_grads.safetensors")));
    let network = load(&directory.join("adapter"));
    let batch = batch(&expected);
    let settings = LossSettings::default();
    let loss = network.loss(&batch, &Counts::of(&batch), 1.0, &settings).unwrap();
    let found = loss.backward();
    let loss = loss.into_scalar::<f32>();
    eprintln!("the loss differs by {:e}", loss - expected.floats("loss")[0]);
    assert!((loss - expected.floats("loss")[0]).abs() < 1e-5, "{loss}");
    let mut worst = 0.0_f32;
    for (name, slope) in slopes.all().iter() {
        let parameter = network.parameters().named(name);
        let gradient = parameter.unwrap_or_else(|| panic!("no parameter {name}")).value.grad(&found).unwrap();
        assert_eq!(gradient.shape(), slope.shape(), "{name}");
        let gradient: Vec<f32> = gradient.into_data().unwrap().try_to_vec().unwrap();
        worst = worst.max(furthest(&gradient, &slopes.floats(name)));
    }
    eprintln!("gradients differ by {worst:e}");
    assert!(worst < 1e-5, "{worst}");
}

#[test]
fn lora_parity_of_a_stored_adapter() {
    let directory = need!(fixture("lora_gpt2"));
    let stored = tempfile::tempdir().unwrap();
    load(&directory.join("adapter")).save(stored.path()).unwrap();
    let tensors = |directory: &Path| Tensors::read(&directory.join("adapter_model.safetensors"));
    let config = |directory: &Path| -> Value {
        serde_json::from_slice(&std::fs::read(directory.join("adapter_config.json")).unwrap()).unwrap()
    };
    let (before, after) = (directory.join("adapter"), stored.path().join("adapter"));
    let (old, new) = (tensors(&before), tensors(&after));
    assert_eq!(old.all().len(), new.all().len());
    for (name, tensor) in old.all().iter() {
        assert_eq!(tensor.data(), new.all().tensor(name).unwrap().data(), "{name}");
    }
    let (old, new) = (config(&before), config(&after));
    for field in ["peft_type", "r", "lora_alpha", "lora_dropout", "target_modules", "fan_in_fan_out", "bias"] {
        assert_eq!(old[field], new[field], "{field}");
    }
    // The weights that it belongs to lie above it, unchanged.
    let (old, new) = (Tensors::weights(&directory.join("base")), Tensors::weights(stored.path()));
    for (name, tensor) in old.all().iter() {
        assert_eq!(tensor.data(), new.all().tensor(name).unwrap().data(), "{name}");
    }
    check_logits(&load(stored.path()), &Tensors::expected(&directory), "logits");
    check_logits(&load(&after), &Tensors::expected(&directory), "logits");
}
