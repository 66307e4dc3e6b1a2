//! GPT-2 gives the reference implementation's numbers.

use crate::common::{need, parity};
use burn::tensor::Device;
use parity::{Tensors, decoder, fixture};
use pipe::network::model::Network;

#[test]
fn gpt2_parity_of_logits_and_loss() {
    let directory = need!(fixture("gpt2"));
    decoder::check_numbers(&directory);
}

/// Rows for a linear head come with attention in both directions.
#[test]
fn gpt2_parity_whatever_a_batch_lets_its_tokens_see() {
    let directory = need!(fixture("gpt2"));
    let network = Network::load(&directory, &Device::flex()).unwrap();
    let expected = Tensors::expected(&directory);
    let [rows, width] = expected.shape("input_ids")[..] else { panic!("rows of tokens") };
    let mut batch = decoder::batch(expected.integers("input_ids"), width, &vec![0; rows]);
    batch.span_ends = (0..rows * width).map(|place| ((place / width + 1) * width) as u32).collect();
    decoder::check_logits(&network, &batch, &expected.floats("logits"));
}

#[test]
fn gpt2_parity_with_padding_on_the_left() {
    let directory = need!(fixture("gpt2"));
    decoder::check_left_padding(&directory);
}

#[test]
fn gpt2_parity_of_greedy_generation() {
    let directory = need!(fixture("gpt2"));
    decoder::check_generation(&directory);
}

#[test]
fn gpt2_parity_of_stored_files() {
    let directory = need!(fixture("gpt2"));
    decoder::check_stored(&directory, "");
}
