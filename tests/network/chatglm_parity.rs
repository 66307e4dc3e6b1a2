//! All generations of ChatGLM give the original code's numbers.

use crate::common::{need, parity};
use std::path::Path;

use burn::tensor::Device;
use parity::{Tensors, decoder, fixture};
use pipe::{
    learning::objectives::{
        Specials,
        form::{AnswerForm, feed},
    },
    network::{
        batch::{Batch, Example, Layout, SlotRange, lay_out},
        model::Network,
    },
    support::random::Key,
};
use serde_json::Value;

/// The ids that ChatGLM's config names; the others don't matter here.
fn specials(directory: &Path) -> Specials {
    let config: Value = serde_json::from_slice(&std::fs::read(directory.join("config.json")).unwrap()).unwrap();
    let id = |name: &str| config[format!("{name}_token_id")].as_u64().unwrap() as u32;
    let (pad, sop, eop) = (id("pad"), id("bos"), id("eos"));
    let vocab_size = config["vocab_size"].as_u64().unwrap() as usize;
    let (mask, gmask) = (id("mask"), id("gmask"));
    Specials { pad, unk: pad, cls: pad, sep: eop, mask, gmask, smask: mask, sop, eop, vocab_size }
}

/// A sequence of ChatGLM's as recipes make it: a context with a mask, and after `<sop>` an answer.
fn example(tokens: &[u32], specials: &Specials) -> Example {
    let end = tokens.iter().position(|&token| token == specials.sop).unwrap();
    let (context, answer) = (&tokens[..end], &tokens[end + 1..]);
    let mut example = match context.split_last() {
        Some((&last, text)) if last == specials.gmask => AnswerForm::Chatglm.text(0, text, specials).example,
        _ => {
            let mask = context.iter().position(|&token| token == specials.mask).unwrap();
            AnswerForm::Chatglm.word(0, &context[..mask], &context[mask + 1..], 1, specials).example
        }
    };
    feed(&mut example, answer);
    assert_eq!(example.tokens, tokens);
    example
}

/// The reference's batch, what its tokens see included.
pub(super) fn chatglm_batch(expected: &Tensors, prefix: &str) -> Batch {
    let name = |part: &str| format!("{prefix}{part}");
    let [rows, width] = expected.shape(&name("input_ids"))[..] else { panic!("rows of tokens") };
    let positions = expected.integers(&name("position_ids"));
    let row_of = |which: usize| positions.chunks(width).skip(which).step_by(2).flatten().copied().collect();
    let mut batch = Batch {
        rows,
        width,
        tokens: expected.integers(&name("input_ids")),
        positions: row_of(0),
        block_positions: row_of(1),
        dropout_keys: vec![0; rows * width],
        ..Batch::default()
    };
    // 1 where a key is hidden.
    for (place, hidden) in expected.signed(&name("attention_mask")).chunks(width).enumerate() {
        let start = place / width * width;
        let seen: Vec<usize> = (0..width).filter(|&key| hidden[key] == 0).collect();
        let (from, to) = match (seen.first(), seen.last()) {
            (Some(first), Some(last)) => (start + first, start + last + 1),
            _ => (place, place),
        };
        assert_eq!(seen.len(), to - from, "an interval");
        batch.span_starts.push(from as u32);
        batch.span_ends.push(to as u32);
    }
    batch.examples = (0..rows)
        .map(|row| {
            let first = (row * width..(row + 1) * width).find(|&at| batch.span_starts[at] < batch.span_ends[at]);
            let first = first.unwrap();
            SlotRange { start: first as u32, length: ((row + 1) * width - first) as u32 }
        })
        .collect();
    batch
}

#[test]
fn chatglm1_parity_of_hidden_states_logits_and_loss() {
    let directory = need!(fixture("chatglm1"));
    let (network, expected) = (Network::load(&directory, &Device::flex()).unwrap(), Tensors::expected(&directory));
    let batch = chatglm_batch(&expected, "");
    decoder::check_logits(&network, &batch, &expected.floats("logits"));
    decoder::check_loss(&network, &batch, &expected);
    let last = format!("hidden_states.{}", network.architecture().sizes().layers);
    decoder::check_hidden(&network, &batch, &expected.floats(&last));
}

#[test]
fn chatglm1_parity_with_padding_on_the_left() {
    let directory = need!(fixture("chatglm1"));
    let (network, expected) = (Network::load(&directory, &Device::flex()).unwrap(), Tensors::expected(&directory));
    let batch = chatglm_batch(&expected, "leftpad.");
    assert!(batch.examples.iter().any(|example| !(example.start as usize).is_multiple_of(batch.width)));
    decoder::check_logits(&network, &batch, &expected.floats("leftpad.logits"));
}

#[test]
fn chatglm1_parity_of_positions_and_masks() {
    let directory = need!(fixture("chatglm1"));
    let (expected, specials) = (Tensors::expected(&directory), specials(&directory));
    let reference = chatglm_batch(&expected, "");
    let examples: Vec<Example> = reference.tokens.chunks(reference.width).map(|row| example(row, &specials)).collect();
    let made = lay_out(&examples, Layout::Ragged, Key::new(0));
    assert_eq!(made.positions, reference.positions);
    assert_eq!(made.block_positions, reference.block_positions);
    assert_eq!(made.span_starts, reference.span_starts);
    assert_eq!(made.span_ends, reference.span_ends);
}

#[test]
fn chatglm1_parity_of_greedy_generation() {
    let directory = need!(fixture("chatglm1"));
    let specials = specials(&directory);
    decoder::check_generation_of(&directory, |tokens| {
        lay_out(&[example(tokens, &specials)], Layout::Ragged, Key::new(0))
    });
}

#[test]
fn chatglm1_parity_of_stored_files() {
    let directory = need!(fixture("chatglm1"));
    decoder::check_stored(&directory, ".inv_freq");
}

#[test]
fn chatglm2_parity_of_logits_loss_and_generation() {
    let directory = need!(fixture("chatglm2"));
    decoder::check_numbers(&directory);
    decoder::check_left_padding(&directory);
    decoder::check_generation(&directory);
    decoder::check_stored(&directory, ".inv_freq");
}

#[test]
fn glm_and_glm4_parity_of_logits_loss_and_generation() {
    for name in ["glm", "glm4"] {
        let directory = need!(fixture(name));
        decoder::check_numbers(&directory);
        decoder::check_left_padding(&directory);
        decoder::check_generation(&directory);
        decoder::check_stored(&directory, "");
    }
}

#[test]
fn glm_and_glm4_parity_with_configs_of_older_versions() {
    for name in ["glm", "glm4"] {
        let directory = need!(fixture(name));
        let older = tempfile::tempdir().unwrap();
        let copy = |from: &str, to: &str| std::fs::copy(directory.join(from), older.path().join(to)).unwrap();
        copy("config_v4_style.json", "config.json");
        for same in ["model.safetensors", "expected.safetensors", "generation.json"] {
            copy(same, same);
        }
        decoder::check_numbers(older.path());
        decoder::check_stored(older.path(), "");
    }
}

#[test]
fn glm4_parity_of_shards() {
    let directory = need!(fixture("glm4"));
    let network = Network::load(&directory.join("sharded"), &Device::flex()).unwrap();
    let expected = Tensors::expected(&directory);
    let [rows, width] = expected.shape("input_ids")[..] else { panic!("rows of tokens") };
    let batch = decoder::batch(expected.integers("input_ids"), width, &vec![0; rows]);
    decoder::check_logits(&network, &batch, &expected.floats("logits"));
}
