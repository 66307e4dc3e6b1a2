//! Training of tokenizers, the same to the byte at every run.
//!
//! The library's own trainers walk over hash maps and add up floats as threads finish, so their vocabularies differ
//! between runs. These here count words with integers, go through them in sorted order, and add up floats in a fixed
//! order.

mod assemble;
mod bpe;
mod merges;
mod mix;
mod sample;
mod seeds;
mod unigram;
mod wordpiece;
mod words;

use anyhow::{Result, bail};

use super::special;
use crate::spec;

/// See [`Tokenizer::train`](super::Tokenizer::train).
pub(super) fn train(
    spec: &spec::Tokenizer,
    texts: impl Iterator<Item = Result<String>>,
) -> Result<tokenizers::Tokenizer> {
    let texts = sample::take(texts)?;
    if texts.is_empty() {
        bail!("there is no text to train a tokenizer on");
    }
    let mut tokenizer = match spec {
        spec::Tokenizer::Bpe(spec) => bpe::train(spec, &texts)?,
        spec::Tokenizer::Wordpiece(spec) => wordpiece::train(spec, &texts)?,
        spec::Tokenizer::Unigram(spec) => unigram::train(spec, &texts)?,
        spec::Tokenizer::File(_) | spec::Tokenizer::Stage(_) => bail!("this tokenizer exists and isn't trained"),
    };
    for name in special::NAMES {
        special::add(&mut tokenizer, name)?;
    }
    Ok(tokenizer)
}
