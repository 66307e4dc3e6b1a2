//! The models give the reference implementations' numbers.

use crate::common::{need, parity};
use std::path::Path;

use burn::tensor::Device;
use parity::{Tensors, fixture, furthest};
use pipe::network::{
    batch::{Batch, SlotRange, Target},
    model::{Counts, LossSettings, Network, PassMode},
};
use safetensors::SafeTensors;
use serde_json::Value;

/// The reference's batch, padding and what it sees included.
fn glm_batch(expected: &Tensors) -> Batch {
    let [rows, width] = expected.shape("input_ids")[..] else { panic!("rows of tokens") };
    let positions = expected.integers("position_ids");
    let row_of = |which: usize| positions.chunks(width).skip(which).step_by(2).flatten().copied().collect();
    let boundaries = expected.integers("attention_boundary");
    let (mask, targets) = (expected.integers("loss_mask"), expected.integers("targets"));
    let starts = || (0..rows * width).map(|place| (place / width * width) as u32);
    Batch {
        rows,
        width,
        tokens: expected.integers("input_ids"),
        positions: row_of(0),
        block_positions: row_of(1),
        span_starts: starts().collect(),
        span_ends: starts()
            .enumerate()
            .map(|(place, start)| start + boundaries[place / width].max((place % width) as u32 + 1))
            .collect(),
        dropout_keys: vec![0; rows * width],
        examples: (0..rows).map(|row| SlotRange { start: (row * width) as u32, length: width as u32 }).collect(),
        targets: (0..rows * width)
            .filter(|&place| mask[place] == 1)
            .map(|place| Target { at: place as u32, token: targets[place] })
            .collect(),
        ..Batch::default()
    }
}

#[test]
fn glm_parity_of_hidden_states_logits_and_loss() {
    let directory = need!(fixture("glm_original"));
    let network = Network::load(&directory, &Device::flex()).unwrap();
    let expected = Tensors::expected(&directory);
    let batch = glm_batch(&expected);

    let hidden: Vec<f32> = network.hidden(&batch, PassMode::Evaluate).unwrap().try_into_vec_as().unwrap();
    let last = format!("hidden_states.{}", network.architecture().sizes().layers);
    assert!(furthest(&hidden, &expected.floats(&last)) < 1e-4);

    let places: Vec<u32> = (0..batch.tokens.len() as u32).collect();
    let logits = network.logits_at(&batch, &places).unwrap().concat();
    assert!(furthest(&logits, &expected.floats("logits")) < 1e-4);

    let settings = LossSettings::default();
    let loss = network.loss(&batch, &Counts::of(&batch), 1.0, &settings).unwrap().into_scalar::<f32>();
    assert!((loss - expected.floats("loss")[0]).abs() < 1e-5, "{loss}");

    let token_losses = expected.floats("token_losses");
    for (score, target) in network.target_scores(&batch).unwrap().iter().zip(&batch.targets) {
        assert!((score.log_probability + token_losses[target.at as usize]).abs() < 1e-4);
    }
}

#[test]
fn glm_parity_without_padding() {
    let directory = need!(fixture("glm_original"));
    let network = Network::load(&directory, &Device::flex()).unwrap();
    let expected = Tensors::expected(&directory);
    let padded = glm_batch(&expected);
    let (rows, width) = (padded.rows, padded.width);
    let learned = expected.integers("loss_mask");
    let lengths: Vec<usize> =
        learned.chunks(width).map(|row| row.iter().rposition(|&learned| learned == 1).unwrap() + 1).collect();
    assert!(lengths.iter().min() < lengths.iter().max(), "the examples differ in length: {lengths:?}");

    let places: Vec<usize> = (0..rows).flat_map(|row| row * width..row * width + lengths[row]).collect();
    let pick = |values: &[u32]| places.iter().map(|&place| values[place]).collect::<Vec<u32>>();
    let mut batch = Batch { rows: 1, width: places.len(), ..Batch::default() };
    batch.tokens = pick(&padded.tokens);
    batch.positions = pick(&padded.positions);
    batch.block_positions = pick(&padded.block_positions);
    batch.dropout_keys = pick(&padded.dropout_keys);
    let (span_starts, span_ends) = (pick(&padded.span_starts), pick(&padded.span_ends));
    let moved = |place: u32, row: usize| (place as usize - row * width + lengths[..row].iter().sum::<usize>()) as u32;
    for (at, &place) in places.iter().enumerate() {
        batch.span_starts.push(moved(span_starts[at], place / width));
        batch.span_ends.push(moved(span_ends[at], place / width));
    }

    let all: Vec<u32> = (0..places.len() as u32).collect();
    let logits = network.logits_at(&batch, &all).unwrap();
    let (reference, vocabulary) = (expected.floats("logits"), network.vocabulary());
    for (row, &place) in logits.iter().zip(&places) {
        assert!(furthest(row, &reference[place * vocabulary..][..vocabulary]) < 1e-4, "at {place}");
    }
}

#[test]
fn glm_parity_of_greedy_generation() {
    let directory = need!(fixture("glm_original"));
    let network = Network::load(&directory, &Device::flex()).unwrap();
    let cases: Value = serde_json::from_slice(&std::fs::read(directory.join("generation.json")).unwrap()).unwrap();
    let numbers = |value: &Value| -> Vec<u32> {
        value.as_array().unwrap().iter().map(|number| number.as_u64().unwrap() as u32).collect()
    };
    for case in cases.as_array().unwrap() {
        let mut tokens = numbers(&case["prompt_ids"]);
        let boundary = case["attention_boundary"].as_u64().unwrap() as u32;
        let positions = &case["position_ids_of_prompt_and_all_but_last_new"];
        let (positions, block_positions) = (numbers(&positions[0]), numbers(&positions[1]));
        for next in numbers(&case["new_ids"]) {
            let length = tokens.len();
            let batch = Batch {
                rows: 1,
                width: length,
                tokens: tokens.clone(),
                positions: positions[..length].to_vec(),
                block_positions: block_positions[..length].to_vec(),
                span_starts: vec![0; length],
                span_ends: (1..=length as u32).map(|end| end.max(boundary)).collect(),
                dropout_keys: vec![0; length],
                ..Batch::default()
            };
            let logits = &network.logits_at(&batch, &[length as u32 - 1]).unwrap()[0];
            let best = (0..logits.len()).max_by(|&a, &b| logits[a].total_cmp(&logits[b])).unwrap();
            assert_eq!(best as u32, next, "after {tokens:?}");
            tokens.push(next);
        }
    }
}

#[test]
fn glm_parity_of_stored_weights() {
    let directory = need!(fixture("glm_original"));
    let network = Network::load(&directory, &Device::flex()).unwrap();
    let stored = tempfile::tempdir().unwrap();
    network.save(stored.path()).unwrap();

    let bytes = |path: &Path| std::fs::read(path.join("model.safetensors")).unwrap();
    let (before, after) = (bytes(&directory), bytes(stored.path()));
    let (before, after) = (SafeTensors::deserialize(&before).unwrap(), SafeTensors::deserialize(&after).unwrap());
    assert_eq!(before.len(), after.len());
    for (name, tensor) in before.iter() {
        assert_eq!(tensor.data(), after.tensor(name).unwrap().data(), "{name}");
    }

    let config =
        |path: &Path| -> Value { serde_json::from_slice(&std::fs::read(path.join("config.json")).unwrap()).unwrap() };
    let (before, after) = (config(&directory), config(stored.path()));
    for (key, value) in after.as_object().unwrap() {
        assert_eq!(&before[key], value, "{key}");
    }
}
