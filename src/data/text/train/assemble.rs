//! What stands around the models: normalizers, pre-tokenizers and decoders of the tokenizers that are trained here.

use anyhow::{Error, Result};
use tokenizers::decoders::byte_fallback::ByteFallback;
use tokenizers::decoders::fuse::Fuse;
use tokenizers::normalizers::replace::ReplacePattern;
use tokenizers::normalizers::{BertNormalizer, Lowercase, NFKC, Replace};
use tokenizers::pre_tokenizers::bert::BertPreTokenizer;
use tokenizers::pre_tokenizers::byte_level::ByteLevel;
use tokenizers::pre_tokenizers::split::{Split, SplitPattern};
use tokenizers::{
    DecoderWrapper, ModelWrapper, NormalizerWrapper, SplitDelimiterBehavior, Tokenizer, decoders, normalizers,
};

/// What words are to a unigram model: runs of Han, of digits, of the same mark, of other letters with the space before
/// them; other spaces on their own. Pieces don't reach beyond a word.
const WORDS: &str = r" ?[^\s\p{Han}\p{P}\p{S}\p{N}]+|\p{Han}+|\p{N}+|([\p{P}\p{S}])\1*| ";

/// Half-width marks that NFKC makes of full-width ones, with the latter; decoding restores them after Chinese text.
const MARKS: [(&str, &str); 5] = [(",", "，"), ("!", "！"), ("\\?", "？"), (":", "："), (";", "；")];

/// As GPT-2: words by its regular expression, written as bytes.
pub(super) fn byte_level(model: impl Into<ModelWrapper>) -> Tokenizer {
    let mut tokenizer = Tokenizer::new(model);
    tokenizer.with_pre_tokenizer(Some(ByteLevel::new(false, true, true)));
    tokenizer.with_decoder(Some(ByteLevel::new(false, true, true)));
    tokenizer
}

/// As BERT: Chinese characters each on their own; but decoding puts no spaces between them.
pub(super) fn bert(model: impl Into<ModelWrapper>, lowercase: bool) -> Result<Tokenizer> {
    let mut tokenizer = Tokenizer::new(model);
    let normalizer = BertNormalizer::new(true, true, None, lowercase);
    tokenizer.with_normalizer(Some(normalizer)).map_err(Error::from_boxed)?;
    tokenizer.with_pre_tokenizer(Some(BertPreTokenizer));
    let wide = r"[\p{Han}\x{2018}-\x{201D}\x{2026}\x{3000}-\x{303F}\x{FF00}-\x{FF65}]";
    tokenizer.with_decoder(Some(decoders::sequence::Sequence::new(vec![
        DecoderWrapper::WordPiece(decoders::wordpiece::WordPiece::new("##".into(), true)),
        DecoderWrapper::Fuse(Fuse::new()),
        DecoderWrapper::Replace(replace(&format!(" (?={wide})|(?<={wide}) "), "")?),
    ])));
    Ok(tokenizer)
}

/// NFKC with runs of white space as one space, and no space put before the text.
pub(super) fn unigram(model: impl Into<ModelWrapper>, lowercase: bool) -> Result<Tokenizer> {
    let mut tokenizer = Tokenizer::new(model);
    let mut steps = vec![NormalizerWrapper::NFKC(NFKC)];
    if lowercase {
        steps.push(NormalizerWrapper::Lowercase(Lowercase));
    }
    steps.push(NormalizerWrapper::Replace(replace(r"\s+", " ")?));
    tokenizer.with_normalizer(Some(normalizers::Sequence::new(steps))).map_err(Error::from_boxed)?;
    let words = Split::new(SplitPattern::Regex(WORDS.into()), SplitDelimiterBehavior::Isolated, false);
    tokenizer.with_pre_tokenizer(Some(words.map_err(Error::from_boxed)?));
    let mut steps = vec![DecoderWrapper::ByteFallback(ByteFallback::new()), DecoderWrapper::Fuse(Fuse::new())];
    for (half, full) in MARKS {
        steps.push(DecoderWrapper::Replace(replace(&format!(r"(?<=[\p{{Han}}》」』）)”]){half}"), full)?));
    }
    tokenizer.with_decoder(Some(decoders::sequence::Sequence::new(steps)));
    Ok(tokenizer)
}

fn replace(pattern: &str, content: &str) -> Result<Replace> {
    Replace::new(ReplacePattern::Regex(pattern.into()), content).map_err(Error::from_boxed)
}
