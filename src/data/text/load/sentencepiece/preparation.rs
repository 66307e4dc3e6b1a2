//! What a text goes through before its pieces are found, and what becomes of pieces when they're put together again.

use anyhow::{Error, Result};
use tokenizers::{
    DecoderWrapper, NormalizerWrapper, Tokenizer,
    decoders::{byte_fallback::ByteFallback, fuse::Fuse, sequence::Sequence, strip::Strip},
    normalizers::{self, NFC, Prepend, Replace, replace::ReplacePattern},
    pre_tokenizers::metaspace::{Metaspace, PrependScheme},
};

use super::{charsmap, model::Model};

/// What stands for a space.
const SPACE: &str = "▁";

/// Sets a tokenizer's normalizer and decoder. Where symbols are cut `out` of the text before it's tokenized, the space
/// before the text is left to the pre-tokenizer, so that the parts don't get one each.
pub(super) fn prepare(tokenizer: &mut Tokenizer, model: &Model<'_>, out: &[&str]) -> Result<()> {
    let symbols = whitespace_symbols(model);
    let mut before = Vec::new();
    if model.rules.contains("nfkc") {
        // The library looks rules up by grapheme and finds the shortest, so that of a letter rather than that of the
        // letter with its marks. NFC follows the latter; it stands first, as it can't be trusted after other changes.
        before.push(NormalizerWrapper::NFC(NFC));
    }
    for (white, symbol) in &symbols {
        before.push(NormalizerWrapper::Replace(replace(white.as_str(), symbol)?));
    }
    if model.rules.contains("nmt") {
        // The library would make one space of the two characters.
        before.push(NormalizerWrapper::Replace(replace("\r\n", "\n\n")?));
    }
    if !model.charsmap.is_empty() {
        before.push(NormalizerWrapper::Precompiled(charsmap::read(model.charsmap)?));
    }
    if model.remove_extra_whitespaces {
        let ends = ReplacePattern::Regex(format!(r"\A +|[ {SPACE}]+\z"));
        before.push(NormalizerWrapper::Replace(replace(ends, "")?));
        before.push(NormalizerWrapper::Replace(replace(ReplacePattern::Regex(" {2,}".to_owned()), " ")?));
    }
    if model.escape_whitespaces {
        before.push(NormalizerWrapper::Replace(replace(" ", SPACE)?));
    }
    if model.dummy_prefix && !out.is_empty() {
        // The pre-tokenizer sets none where a space is already, or a symbol. A symbol alone is left as it is, for so its
        // name is prepared.
        let symbols = out.iter().map(|symbol| escaped(symbol)).collect::<Vec<_>>().join("|");
        let begins = ReplacePattern::Regex(format!(r"\A(?!(?:{symbols})\z)(?={SPACE}|{symbols})"));
        before.push(NormalizerWrapper::Replace(replace(begins, SPACE)?));
        tokenizer.with_pre_tokenizer(Some(Metaspace::new('▁', PrependScheme::First, false)));
    } else if model.dummy_prefix {
        before.push(NormalizerWrapper::Prepend(Prepend::new(SPACE.to_owned())));
    }
    tokenizer.with_normalizer(Some(normalizers::Sequence::new(before))).map_err(Error::from_boxed)?;

    let mut after = vec![
        DecoderWrapper::Replace(replace(SPACE, " ")?),
        DecoderWrapper::ByteFallback(ByteFallback::new()),
        DecoderWrapper::Fuse(Fuse::new()),
    ];
    if model.dummy_prefix {
        after.push(DecoderWrapper::Strip(Strip::new(' ', 1, 0)));
    }
    for (white, symbol) in &symbols {
        after.push(DecoderWrapper::Replace(replace(symbol.as_str(), white)?));
    }
    tokenizer.with_decoder(Some(Sequence::new(after)));
    Ok(())
}

/// What ChatGLM-6B writes as symbols: line breaks, tabs, and runs of spaces, the longest first.
fn whitespace_symbols(model: &Model<'_>) -> Vec<(String, String)> {
    let blank = |piece: &str| piece.strip_prefix("<|blank_")?.strip_suffix("|>")?.parse::<usize>().ok();
    let mut runs: Vec<usize> = model.pieces.iter().filter_map(|piece| blank(&piece.text)).collect();
    if runs.is_empty() || !model.has("<n>") {
        return Vec::new();
    }
    runs.sort_unstable_by(|a, b| b.cmp(a));
    let white = [("\n".to_owned(), "<n>".to_owned()), ("\t".to_owned(), "<|tab|>".to_owned())];
    let white = white.into_iter().filter(|(_, symbol)| model.has(symbol));
    white.chain(runs.into_iter().map(|run| (" ".repeat(run), format!("<|blank_{run}|>")))).collect()
}

/// A text as a regular expression that matches it alone.
fn escaped(text: &str) -> String {
    text.chars().map(|character| format!(r"\x{{{:X}}}", u32::from(character))).collect()
}

fn replace(pattern: impl Into<ReplacePattern>, content: &str) -> Result<Replace> {
    Replace::new(pattern, content).map_err(Error::from_boxed)
}
