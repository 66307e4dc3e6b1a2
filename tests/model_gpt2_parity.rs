//! GPT-2 gives the reference implementation's numbers.

mod parity;

use burn::tensor::Device;
use parity::{Tensors, fixture, furthest};
use pipe::{
    batch::{Batch, Span, Target},
    model::{Counts, LossSettings, Network},
};
use serde_json::Value;

/// Rows of equal length whose first tokens may be padding.
fn batch(tokens: Vec<u32>, width: usize, padding: &[u32]) -> Batch {
    let count = tokens.len();
    let first = |place: usize| (place / width * width) as u32 + padding[place / width];
    Batch {
        rows: count / width,
        width,
        tokens,
        positions: (0..count).map(|place| (place as u32).saturating_sub(first(place))).collect(),
        block_positions: vec![0; count],
        visible_from: (0..count).map(|place| first(place).min(place as u32)).collect(),
        visible_to: (1..=count as u32).collect(),
        dropout_keys: vec![0; count],
        examples: (0..count / width)
            .map(|row| Span { start: first(row * width), length: width as u32 - padding[row] })
            .collect(),
        ..Batch::default()
    }
}

fn check_logits(network: &Network, batch: &Batch, reference: &[f32]) {
    let size = network.vocabulary();
    let seen: Vec<u32> = batch.examples.iter().flat_map(|span| span.start..span.start + span.length).collect();
    let logits = network.logits_at(batch, &seen).unwrap();
    let worst = logits.iter().zip(&seen).map(|(row, &at)| furthest(row, &reference[at as usize * size..][..size]));
    let worst = worst.fold(0.0, f32::max);
    eprintln!("logits differ by {worst:e}");
    assert!(worst < 1e-4, "{worst}");
}

#[test]
fn gpt2_parity_of_logits_and_loss() {
    let Some(directory) = fixture("gpt2") else { return };
    let network = Network::load(&directory, &Device::flex()).unwrap();
    let expected = Tensors::expected(&directory);
    let [rows, width] = expected.shape("input_ids")[..] else { panic!("rows of tokens") };
    let mut batch = batch(expected.integers("input_ids"), width, &vec![0; rows]);
    check_logits(&network, &batch, &expected.floats("logits"));

    let labels = expected.signed("labels");
    let learned = (0..rows * width).filter(|at| (at + 1) % width != 0 && labels[at + 1] >= 0);
    batch.targets = learned.map(|at| Target { at: at as u32, token: labels[at + 1] as u32 }).collect();
    let settings = LossSettings { dropout: 0.0, label_smoothing: 0.0, candidates: None };
    let loss = network.loss(&batch, &Counts::of(&batch), 1.0, &settings).unwrap().into_scalar::<f32>();
    eprintln!("the loss differs by {:e}", loss - expected.floats("loss")[0]);
    assert!((loss - expected.floats("loss")[0]).abs() < 1e-5, "{loss}");
}

/// Rows for a linear head come with attention in both directions.
#[test]
fn gpt2_parity_whatever_a_batch_lets_its_tokens_see() {
    let Some(directory) = fixture("gpt2") else { return };
    let network = Network::load(&directory, &Device::flex()).unwrap();
    let expected = Tensors::expected(&directory);
    let [rows, width] = expected.shape("input_ids")[..] else { panic!("rows of tokens") };
    let mut batch = batch(expected.integers("input_ids"), width, &vec![0; rows]);
    batch.visible_to = (0..rows * width).map(|place| ((place / width + 1) * width) as u32).collect();
    check_logits(&network, &batch, &expected.floats("logits"));
}

#[test]
fn gpt2_parity_with_padding_on_the_left() {
    let Some(directory) = fixture("gpt2") else { return };
    let network = Network::load(&directory, &Device::flex()).unwrap();
    let expected = Tensors::expected(&directory);
    let [_, width] = expected.shape("leftpad.input_ids")[..] else { panic!("rows of tokens") };
    let mask = expected.signed("leftpad.attention_mask");
    let padding: Vec<u32> = mask.chunks(width).map(|row| width as u32 - row.iter().sum::<i64>() as u32).collect();
    assert!(padding.iter().any(|&count| count > 0));
    let mut batch = batch(expected.integers("leftpad.input_ids"), width, &padding);
    batch.positions = expected.integers("leftpad.position_ids");
    check_logits(&network, &batch, &expected.floats("leftpad.logits"));
}

#[test]
fn gpt2_parity_of_greedy_generation() {
    let Some(directory) = fixture("gpt2") else { return };
    let network = Network::load(&directory, &Device::flex()).unwrap();
    let cases: Value = serde_json::from_slice(&std::fs::read(directory.join("generation.json")).unwrap()).unwrap();
    let numbers = |value: &Value| -> Vec<u32> {
        value.as_array().unwrap().iter().map(|number| number.as_u64().unwrap() as u32).collect()
    };
    for case in cases.as_array().unwrap() {
        let mut tokens = numbers(&case["prompt_ids"]);
        for next in numbers(&case["new_ids"]) {
            let length = tokens.len();
            let batch = batch(tokens.clone(), length, &[0]);
            let logits = &network.logits_at(&batch, &[length as u32 - 1]).unwrap()[0];
            let best = (0..logits.len()).max_by(|&a, &b| logits[a].total_cmp(&logits[b])).unwrap();
            assert_eq!(best as u32, next, "after {tokens:?}");
            tokens.push(next);
        }
    }
}

#[test]
fn gpt2_parity_of_stored_weights() {
    let Some(directory) = fixture("gpt2") else { return };
    let stored = tempfile::tempdir().unwrap();
    Network::load(&directory, &Device::flex()).unwrap().save(stored.path()).unwrap();
    let (before, after) = (Tensors::weights(&directory), Tensors::weights(stored.path()));
    assert_eq!(before.all().len(), after.all().len());
    for (name, tensor) in before.all().iter() {
        assert_eq!(tensor.shape(), after.all().tensor(name).unwrap().shape(), "{name}");
        assert_eq!(tensor.data(), after.all().tensor(name).unwrap().data(), "{name}");
    }
}
