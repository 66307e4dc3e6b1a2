//! A Marian model gives the numbers of Hugging Face's `transformers`, which makes it here.

use crate::common::{
    finish, need,
    needs::{Need, Needed},
    parity,
};
use std::process::Command;

use burn::tensor::Device;
use parity::{Tensors, furthest};
use pipe::{
    network::{
        batch::{Example, Layout, lay_out},
        model::Network,
    },
    support::random::Key,
};

/// A folder with a small random model, its inputs and outputs.
fn made() -> Needed<tempfile::TempDir> {
    let python = Need::Transformers.variable("PIPE_PYTHON")?;
    let directory = tempfile::tempdir().unwrap();
    let mut command = Command::new(python);
    command.arg(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/network/marian.py"));
    command.arg("make").arg(directory.path());
    let output = finish(command);
    assert_eq!(output.status, 0, "{}", output.stderr);
    Ok(directory)
}

#[test]
fn marian_parity_of_logits() {
    let directory = need!(made());
    let network = Network::load(directory.path(), &Device::flex()).unwrap();
    let expected = Tensors::expected(directory.path());
    let [[count, width], [_, length]] =
        ["input_ids", "decoder_input_ids"].map(|name| <[usize; 2]>::try_from(expected.shape(name)).unwrap());
    let (sources, targets) = (expected.integers("input_ids"), expected.integers("decoder_input_ids"));
    let read = expected.integers("attention_mask");
    let examples: Vec<Example> = (0..count)
        .map(|row| {
            let read: usize = read[row * width..][..width].iter().map(|&read| read as usize).sum();
            // Of a target the first token is the one that all begin with.
            let tokens = [&sources[row * width..][..read], &targets[row * length + 1..][..length - 1]].concat();
            Example::sequence(row as u64, tokens, read)
        })
        .collect();
    let batch = lay_out(&examples, Layout::Ragged, Key::new(0));
    let ends = batch.examples.iter().map(|span| span.start + span.length);
    let places: Vec<u32> = ends.flat_map(|end| end - length as u32..end).collect();
    let found = network.logits_at(&batch, &places).unwrap().concat();
    let worst = furthest(&found, &expected.floats("logits"));
    eprintln!("logits differ by {worst:e}");
    assert!(worst < 1e-4, "{worst}");
}

#[test]
fn marian_parity_of_names_and_shapes() {
    let directory = need!(made());
    let saved = tempfile::tempdir().unwrap();
    Network::load(directory.path(), &Device::flex()).unwrap().save(saved.path()).unwrap();
    let [found, expected] = [saved.path(), directory.path()].map(|directory| {
        let file = Tensors::weights(directory);
        let mut tensors: Vec<_> =
            file.all().tensors().into_iter().map(|(name, tensor)| (name, tensor.shape().to_vec())).collect();
        tensors.sort();
        tensors
    });
    assert_eq!(found, expected);
}
