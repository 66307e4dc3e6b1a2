//! What models that read from left to right are held against: logits, loss, padding, generation, stored files.

use std::{collections::BTreeMap, path::Path};

use burn::tensor::Device;
use pipe::network::{
    batch::{Batch, SlotRange, Target},
    model::{Counts, LossSettings, Network, PassMode},
};
use serde_json::Value;

use super::{Tensors, furthest};

/// Rows of equal length whose first tokens may be padding, as many as `padding` says.
pub fn batch(tokens: Vec<u32>, width: usize, padding: &[u32]) -> Batch {
    let count = tokens.len();
    let first = |place: usize| (place / width * width) as u32 + padding[place / width];
    Batch {
        rows: count / width,
        width,
        tokens,
        positions: (0..count).map(|place| (place as u32).saturating_sub(first(place))).collect(),
        block_positions: vec![0; count],
        span_starts: (0..count).map(|place| first(place).min(place as u32)).collect(),
        span_ends: (1..=count as u32).collect(),
        dropout_keys: vec![0; count],
        examples: (0..count / width)
            .map(|row| SlotRange { start: first(row * width), length: width as u32 - padding[row] })
            .collect(),
        ..Batch::default()
    }
}

/// Each token of the examples predicts what the reference predicts.
pub fn check_logits(network: &Network, batch: &Batch, reference: &[f32]) {
    let size = network.vocabulary();
    let seen: Vec<u32> = batch.examples.iter().flat_map(|span| span.start..span.start + span.length).collect();
    let logits = network.logits_at(batch, &seen).unwrap();
    let worst = logits.iter().zip(&seen).map(|(row, &at)| furthest(row, &reference[at as usize * size..][..size]));
    let worst = worst.fold(0.0, f32::max);
    eprintln!("logits differ by {worst:e}");
    assert!(worst < 1e-4, "{worst}");
}

/// The loss of the labels, each predicted by the token before it; those below 0 aren't learned.
pub fn check_loss(network: &Network, batch: &Batch, expected: &Tensors) {
    let labels = expected.signed("labels");
    let learned = (0..labels.len()).filter(|at| (at + 1) % batch.width != 0 && labels[at + 1] >= 0);
    let targets = learned.map(|at| Target { at: at as u32, token: labels[at + 1] as u32 }).collect();
    let batch = Batch { targets, ..batch.clone() };
    let settings = LossSettings::default();
    let loss = network.loss(&batch, &Counts::of(&batch), 1.0, &settings).unwrap().into_scalar::<f32>();
    eprintln!("the loss differs by {:e}", loss - expected.floats("loss")[0]);
    assert!((loss - expected.floats("loss")[0]).abs() < 1e-5, "{loss}");
}

/// Logits and loss of the batch without padding.
pub fn check_numbers(directory: &Path) {
    let (network, expected) = (Network::load(directory, &Device::flex()).unwrap(), Tensors::expected(directory));
    let [rows, width] = expected.shape("input_ids")[..] else { panic!("rows of tokens") };
    let batch = batch(expected.integers("input_ids"), width, &vec![0; rows]);
    check_logits(&network, &batch, &expected.floats("logits"));
    check_loss(&network, &batch, &expected);
}

/// The hidden states behind the last norm, where the reference tells them.
pub fn check_hidden(network: &Network, batch: &Batch, reference: &[f32]) {
    let hidden: Vec<f32> = network.hidden(batch, PassMode::Evaluate).unwrap().try_into_vec_as().unwrap();
    let largest = reference.iter().fold(0.0, |largest: f32, value| largest.max(value.abs()));
    assert!(furthest(&hidden, reference) < 1e-5 * largest.max(1.0));
}

/// Logits of rows that begin with padding.
pub fn check_left_padding(directory: &Path) {
    let (network, expected) = (Network::load(directory, &Device::flex()).unwrap(), Tensors::expected(directory));
    let [_, width] = expected.shape("leftpad.input_ids")[..] else { panic!("rows of tokens") };
    let mask = expected.signed("leftpad.attention_mask");
    let padding: Vec<u32> = mask.chunks(width).map(|row| width as u32 - row.iter().sum::<i64>() as u32).collect();
    assert!(padding.iter().any(|&count| count > 0));
    let mut batch = batch(expected.integers("leftpad.input_ids"), width, &padding);
    batch.positions = expected.integers("leftpad.position_ids");
    check_logits(&network, &batch, &expected.floats("leftpad.logits"));
}

/// The reference's greedy generations, where `batch_of` lays a sequence out.
pub fn check_generation_of(directory: &Path, batch_of: impl Fn(&[u32]) -> Batch) {
    let network = Network::load(directory, &Device::flex()).unwrap();
    let cases: Value = serde_json::from_slice(&std::fs::read(directory.join("generation.json")).unwrap()).unwrap();
    let numbers = |value: &Value| -> Vec<u32> {
        value.as_array().unwrap().iter().map(|number| number.as_u64().unwrap() as u32).collect()
    };
    for case in cases.as_array().unwrap() {
        let mut tokens = numbers(&case["prompt_ids"]);
        for next in numbers(&case["new_ids"]) {
            let logits = &network.logits_at(&batch_of(&tokens), &[tokens.len() as u32 - 1]).unwrap()[0];
            let best = (0..logits.len()).max_by(|&a, &b| logits[a].total_cmp(&logits[b])).unwrap();
            assert_eq!(best as u32, next, "after {tokens:?}");
            tokens.push(next);
        }
    }
}

/// The same for sequences that are read from left to right.
pub fn check_generation(directory: &Path) {
    check_generation_of(directory, |tokens| batch(tokens.to_vec(), tokens.len(), &[0]));
}

/// What's stored is what was read, but for tensors whose names end with `left_out` and the type, which is f32.
pub fn check_stored(directory: &Path, left_out: &str) {
    let stored = tempfile::tempdir().unwrap();
    Network::load(directory, &Device::flex()).unwrap().save(stored.path()).unwrap();
    let (before, after) = (Tensors::weights(directory), Tensors::weights(stored.path()));
    let all = |tensors: &Tensors| -> BTreeMap<String, (Vec<usize>, Vec<u8>)> {
        let all = tensors.all();
        all.iter().map(|(name, view)| (name.to_owned(), (view.shape().to_vec(), view.data().to_vec()))).collect()
    };
    let mut before = all(&before);
    before.retain(|name, _| left_out.is_empty() || !name.ends_with(left_out));
    assert!(before == all(&after), "{:?}", after.all().names());

    let config = |path: &Path| -> Value {
        let mut config: Value = serde_json::from_slice(&std::fs::read(path.join("config.json")).unwrap()).unwrap();
        let config = config.as_object_mut().unwrap();
        config.retain(|name, _| name != "dtype" && name != "torch_dtype");
        config.clone().into()
    };
    assert_eq!(config(directory), config(stored.path()));
}
