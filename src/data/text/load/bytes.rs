//! A tokenizer for checkpoints that have none: each byte of a text is a token, and special tokens have the ids that
//! `config.json` gives them.

use std::collections::BTreeMap;

use anyhow::{Context, Error, Result, ensure};
use serde_json::Value;
use tokenizers::{
    Tokenizer,
    models::bpe::{BPE, Vocab},
    pre_tokenizers::byte_level::ByteLevel,
};

use super::byte_level::letters;
use crate::data::text::special;

/// What the ids in a `config.json` are of; ChatGLM, which alone has a `gmask_token_id`, begins answers with its `bos`.
const CHATGLM: [(&str, &str); 5] = [
    ("pad_token_id", "<pad>"),
    ("mask_token_id", "[MASK]"),
    ("gmask_token_id", "[gMASK]"),
    ("bos_token_id", "<sop>"),
    ("eos_token_id", "<eop>"),
];
const OTHERS: [(&str, &str); 3] = [("pad_token_id", "<pad>"), ("bos_token_id", "<s>"), ("eos_token_id", "</s>")];

/// Bytes take the lowest ids that are free.
pub(super) fn tokenizer(config: &Value) -> Result<Tokenizer> {
    let id = |key: &str| config.get(key).and_then(Value::as_u64).and_then(|id| u32::try_from(id).ok());
    let named: &[(&str, &str)] = if id("gmask_token_id").is_some() { &CHATGLM } else { &OTHERS };
    // Where one id is given twice, the first has it.
    let mut specials = BTreeMap::new();
    for (key, name) in named {
        if let Some(id) = id(key) {
            specials.entry(id).or_insert(*name);
        }
    }
    let free = (0..).filter(|id| !specials.contains_key(id));
    let bytes = letters().into_iter().map(String::from).zip(free);
    let vocabulary: Vocab = bytes.chain(specials.iter().map(|(&id, &name)| (name.to_owned(), id))).collect();
    let size = vocabulary.values().max().map_or(0, |&last| u64::from(last) + 1);
    let room = config.get("vocab_size").and_then(Value::as_u64).context("config.json has no vocab_size")?;
    ensure!(size <= room, "a vocabulary of {room} has no room for all bytes beside the special tokens");

    let model = BPE::builder().vocab_and_merges(vocabulary, Vec::new()).build().map_err(Error::from_boxed)?;
    let mut tokenizer = Tokenizer::new(model);
    tokenizer.with_pre_tokenizer(Some(ByteLevel::new(false, true, false)));
    tokenizer.with_decoder(Some(ByteLevel::new(false, true, false)));
    for name in specials.values() {
        special::add(&mut tokenizer, name)?;
    }
    Ok(tokenizer)
}
