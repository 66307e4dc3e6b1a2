//! Byte-level byte-pair encoding, as GPT-2 has it.

use anyhow::{Error, Result};
use tokenizers::models::bpe::{BPE, Vocab};
use tokenizers::pre_tokenizers::byte_level::ByteLevel;

use super::merges::{Word, learn};
use super::{assemble, words};
use crate::data::text::special;
use crate::spec;

pub(super) fn train(spec: &spec::Bpe, texts: &[String]) -> Result<tokenizers::Tokenizer> {
    let words = words::count(&assemble::byte_level(BPE::default()), texts)?;
    let mut alphabet: Vec<char> = ByteLevel::alphabet().into_iter().collect();
    alphabet.sort_unstable();
    let mut tokens: Vec<String> = special::NAMES.map(String::from).into();
    tokens.extend(alphabet.iter().map(char::to_string));
    let id = |letter| alphabet.binary_search(&letter).ok().map(|index| (index + special::NAMES.len()) as u32);
    let words = words.iter().map(|(word, count)| Word { tokens: word.chars().filter_map(id).collect(), count: *count });
    let learnt = learn(tokens, words.collect(), "", spec.vocab_size, spec.min_frequency);
    let vocabulary: Vocab = learnt.tokens.into_iter().zip(0..).collect();
    let model = BPE::builder().vocab_and_merges(vocabulary, learnt.merges).build();
    Ok(assemble::byte_level(model.map_err(Error::from_boxed)?))
}
