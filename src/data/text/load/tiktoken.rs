//! tiktoken's files of ranks, as GLM-4 has one: a line a token, its bytes in base64 and its rank, which is its id.

use std::collections::HashMap;

use anyhow::{Context, Error, Result, ensure};
use data_encoding::BASE64;
use tokenizers::{
    SplitDelimiterBehavior, Tokenizer,
    models::bpe::{BPE, Vocab},
    pre_tokenizers::{
        PreTokenizerWrapper,
        byte_level::ByteLevel,
        sequence::Sequence,
        split::{Split, SplitPattern},
    },
};

use super::{byte_level::letters, merges::merges};

/// What words are: GLM-4's pattern, that of GPT-4.
const WORDS: &str = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";

/// Tokens with their ranks.
type Ranks = Vec<(Vec<u8>, u32)>;

/// The tokens with their ranks, if the file looks like one of ranks.
pub(super) fn ranks(file: &[u8]) -> Option<Result<Ranks>> {
    let first = file.split(|&byte| byte == b'\n').next()?;
    line(std::str::from_utf8(first).ok()?).ok()?;
    let lines = || std::str::from_utf8(file).context("not UTF-8");
    Some(lines().and_then(|lines| {
        let lines = lines.lines().zip(1..).filter(|(text, _)| !text.is_empty());
        lines.map(|(text, number)| line(text).with_context(|| format!("line {number}"))).collect()
    }))
}

fn line(text: &str) -> Result<(Vec<u8>, u32)> {
    let (token, rank) = text.split_once(' ').context("expected a token and its rank")?;
    Ok((BASE64.decode(token.as_bytes()).context("the token isn't base64")?, rank.trim().parse()?))
}

pub(super) fn convert(mut ranks: Ranks) -> Result<Tokenizer> {
    ranks.sort_by_key(|(_, rank)| *rank);
    let letters = letters();
    let spell = |bytes: &Vec<u8>| bytes.iter().map(|&byte| letters[byte as usize]).collect::<String>();
    let tokens: Vec<(String, u32)> = ranks.iter().map(|(bytes, rank)| (spell(bytes), *rank)).collect();
    let pieces: Vec<&str> = tokens.iter().map(|(token, _)| token.as_str()).collect();
    let merges = merges(&pieces);
    let vocabulary: HashMap<String, u32> = tokens.iter().cloned().collect();
    ensure!(vocabulary.len() == tokens.len(), "two lines have the same token");
    let model = BPE::builder().vocab_and_merges(vocabulary.into_iter().collect::<Vocab>(), merges);
    // A word that is a token is that token, whether or not merges lead there.
    let mut tokenizer = Tokenizer::new(model.ignore_merges(true).build().map_err(Error::from_boxed)?);
    let words = Split::new(SplitPattern::Regex(WORDS.into()), SplitDelimiterBehavior::Isolated, false);
    tokenizer.with_pre_tokenizer(Some(Sequence::new(vec![
        PreTokenizerWrapper::Split(words.map_err(Error::from_boxed)?),
        PreTokenizerWrapper::ByteLevel(ByteLevel::new(false, false, false)),
    ])));
    tokenizer.with_decoder(Some(ByteLevel::new(false, false, false)));
    Ok(tokenizer)
}
