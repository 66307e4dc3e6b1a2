//! Tokenizers as checkpoints bring them: whatever files a directory holds, converted to the library's own tokenizer, so
//! that `tokenizer.json` is all that the rest of the program knows.

mod bert;
mod byte_level;
mod bytes;
mod classes;
mod declared;
mod merges;
mod protobuf;
mod sentencepiece;
mod settings;
mod tiktoken;

use std::path::{Path, PathBuf};

use anyhow::{Context, Error, Result, bail};
use fs_err as fs;
use serde_json::Value;
use tokenizers::Tokenizer;

pub(super) use byte_level::letters;

use crate::support::Hinted;
use settings::Settings;

/// The name of Hugging Face's own file.
const JSON: &str = "tokenizer.json";

/// Under what names checkpoints have a SentencePiece model or tiktoken's ranks.
const MODELS: [&str; 5] =
    ["tokenizer.model", "ice_text.model", "cog-pretrain.model", "spiece.model", "sentencepiece.model"];

/// Reads a tokenizer's file, or what a checkpoint's directory holds, with what the directory says beside it.
pub(super) fn load(path: &Path) -> Result<(Tokenizer, Settings)> {
    if !path.is_dir() {
        let settings = Settings::default();
        let tokenizer = file(path, &settings).with_context(|| unreadable(path))?;
        return Ok((tokenizer, settings));
    }
    let settings = Settings::read(path)?;
    let found = find(path)?;
    let mut tokenizer = file(&found, &settings).with_context(|| unreadable(&found))?;
    if !is(&found, JSON) {
        settings.complete(&mut tokenizer).with_context(|| format!("{}: can't be used", found.display()))?;
    }
    Ok((tokenizer, settings))
}

/// Whether the settings in a directory change what its `tokenizer.json` says by itself; one that can't be read is told of
/// elsewhere.
pub(super) fn is_retold(directory: &Path) -> bool {
    let read = || -> Result<bool> {
        let settings = Settings::read(directory)?;
        let file = directory.join(JSON);
        if !settings.are_given() || !file.is_file() {
            return Ok(false);
        }
        let json: Value = serde_json::from_slice(&fs::read(file)?)?;
        Ok(declared::apply(json.clone(), &settings)? != json)
    };
    read().unwrap_or(false)
}

/// Spells texts in bytes, for the model of a `config.json`.
pub(super) fn bytes(config: &Path) -> Result<Tokenizer> {
    let unreadable = || format!("{}: can't be read", config.display());
    bytes::tokenizer(&serde_json::from_slice(&fs::read(config)?).with_context(unreadable)?)
}

fn unreadable(path: &Path) -> String {
    format!("{}: can't be read as a tokenizer", path.display())
}

/// The file in a directory that holds the vocabulary.
fn find(directory: &Path) -> Result<PathBuf> {
    let has = |name: &str| directory.join(name).is_file();
    if has("vocab.json") && !has(JSON) && !has("merges.txt") {
        bail!("{}: there is vocab.json, but not merges.txt, which goes with it", directory.display());
    }
    let usual = [JSON, "vocab.json", "vocab.txt"].into_iter().chain(MODELS);
    usual.into_iter().find(|name| has(name)).map(|name| directory.join(name)).ok_or_else(|| {
        let hint = format!(
            "one of tokenizer.json, vocab.txt, vocab.json with merges.txt, or a SentencePiece model (such as {}) is \
             expected beside config.json",
            MODELS.join(", ")
        );
        Hinted::with(format!("{}: there is no tokenizer", directory.display()), hint).into()
    })
}

fn file(path: &Path, settings: &Settings) -> Result<Tokenizer> {
    let bytes = fs::read(path)?;
    if is(path, "vocab.txt") {
        return bert::convert(text(&bytes)?, settings);
    }
    if is(path, "vocab.json") {
        let merges = fs::read(path.with_file_name("merges.txt"))?;
        return byte_level::convert(&bytes, text(&merges)?, settings);
    }
    if path.extension().is_some_and(|extension| extension == "model") {
        return match tiktoken::ranks(&bytes) {
            Some(ranks) => tiktoken::convert(ranks?),
            None => sentencepiece::convert(&bytes),
        };
    }
    if !settings.are_given() {
        return Tokenizer::from_bytes(&bytes).map_err(Error::from_boxed);
    }
    let declared = declared::apply(serde_json::from_slice(&bytes)?, settings)?;
    serde_json::from_value(declared).context("with what tokenizer_config.json says, it's no tokenizer")
}

fn is(path: &Path, name: &str) -> bool {
    path.file_name().is_some_and(|file| file == name)
}

fn text(bytes: &[u8]) -> Result<&str> {
    std::str::from_utf8(bytes).context("not UTF-8")
}
