//! BERT's vocab.txt: a line a piece, its number the id.

use anyhow::{Error, Result};
use tokenizers::{
    Tokenizer,
    decoders::wordpiece,
    models::{bpe::Vocab, wordpiece::WordPiece},
    normalizers::BertNormalizer,
    pre_tokenizers::bert::BertPreTokenizer,
};

use super::settings::Settings;

pub(super) fn convert(lines: &str, settings: &Settings) -> Result<Tokenizer> {
    // Blank lines at the end are no tokens; those between others keep the numbers of what follows.
    let vocabulary: Vocab = lines.trim_end_matches(['\n', '\r']).lines().map(String::from).zip(0..).collect();
    let unknown = settings.token("unk_token").unwrap_or_else(|| "[UNK]".to_owned());
    let model = WordPiece::builder().vocab(vocabulary).unk_token(unknown).build().map_err(Error::from_boxed)?;
    let mut tokenizer = Tokenizer::new(model);
    let normalizer = BertNormalizer::new(
        true,
        settings.flag("tokenize_chinese_chars").unwrap_or(true),
        settings.flag("strip_accents"),
        settings.flag("do_lower_case").unwrap_or(true),
    );
    tokenizer.with_normalizer(Some(normalizer)).map_err(Error::from_boxed)?;
    tokenizer.with_pre_tokenizer(Some(BertPreTokenizer));
    tokenizer.with_decoder(Some(wordpiece::WordPiece::new("##".to_owned(), true)));
    Ok(tokenizer)
}
