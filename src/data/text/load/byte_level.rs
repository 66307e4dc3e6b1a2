//! GPT-2's vocab.json and merges.txt.

use std::collections::HashMap;

use anyhow::{Context, Error, Result, ensure};
use tokenizers::{
    Tokenizer,
    models::bpe::{BPE, Merges, Vocab},
    pre_tokenizers::byte_level::ByteLevel,
};

use super::settings::Settings;

pub(super) fn convert(vocabulary: &[u8], merges: &str, settings: &Settings) -> Result<Tokenizer> {
    let vocabulary: HashMap<String, u32> = serde_json::from_slice(vocabulary).context("a token has no id")?;
    let merges = pairs(merges).context("merges.txt")?;
    let model = BPE::builder().vocab_and_merges(vocabulary.into_iter().collect::<Vocab>(), merges);
    let mut tokenizer = Tokenizer::new(model.build().map_err(Error::from_boxed)?);
    let space = settings.flag("add_prefix_space").unwrap_or(false);
    tokenizer.with_pre_tokenizer(Some(ByteLevel::new(space, true, true)));
    tokenizer.with_decoder(Some(ByteLevel::new(space, true, true)));
    Ok(tokenizer)
}

fn pairs(merges: &str) -> Result<Merges> {
    let lines = merges.lines().zip(1..).filter(|(line, _)| !line.is_empty() && !line.starts_with("#version"));
    lines
        .map(|(line, number)| {
            let (left, right) = line.split_once(' ').with_context(|| format!("line {number}: two parts expected"))?;
            ensure!(!right.contains(' '), "line {number}: more than two parts");
            Ok((left.to_owned(), right.to_owned()))
        })
        .collect()
}

/// The letter that byte-level tokenizers write each byte as: printable bytes as they are, the others in their order
/// from U+0100 on.
pub(in crate::data::text) fn letters() -> [char; 256] {
    let printable = |byte: u8| matches!(byte, b'!'..=b'~' | 0xA1..=0xAC | 0xAE..=0xFF);
    let mut others = '\u{100}'..;
    std::array::from_fn(|byte| {
        let byte = byte as u8;
        if printable(byte) { char::from(byte) } else { others.next().unwrap_or_default() }
    })
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use tokenizers::pre_tokenizers::byte_level::ByteLevel;

    #[test]
    fn bytes_have_the_letters_of_the_library() {
        let letters = super::letters();
        assert_eq!((letters[b' ' as usize], letters[b'\n' as usize], letters[0xAD]), ('Ġ', 'Ċ', 'Ń'));
        let alphabet: HashSet<char> = ByteLevel::alphabet().into_iter().collect();
        assert_eq!(HashSet::from(letters), alphabet);
    }
}
