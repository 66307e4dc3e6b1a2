//! The special tokens that every model here is given.

use anyhow::{Result, bail};
use tokenizers::AddedToken;

/// Ids of the special tokens.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Special {
    /// Fills places that are not computed.
    pub pad: u32,
    /// Stands for what the tokenizer doesn't know.
    pub unk: u32,
    /// Begins a text.
    pub cls: u32,
    /// Ends a text.
    pub sep: u32,
    /// Hides a token, or a span of GLM's.
    pub mask: u32,
    /// Hides the rest of a document (GLM).
    pub gmask: u32,
    /// Hides a sentence (GLM).
    pub smask: u32,
    /// Starts a generated piece (GLM).
    pub sop: u32,
    /// Ends a generated piece (GLM).
    pub eop: u32,
}

/// The names that trained tokenizers give them, in the order of [`Special`]; their ids are 0 to 8.
pub(super) const NAMES: [&str; 9] =
    ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "[gMASK]", "[sMASK]", "<sop>", "<eop>"];

/// Under what other names existing tokenizers have them, the likeliest first.
const ALIASES: [&[&str]; 9] = [
    &["<pad>", "<|pad|>", "<|endoftext|>"],
    &["<unk>", "<|unk|>", "[unk]"],
    &["<cls>", "[cls]", "<s>"],
    &["<sep>", "[eos]", "</s>", "<|endoftext|>"],
    &["<mask>", "<|mask|>"],
    &["<gmask>"],
    &["<smask>"],
    &["sop", "<|startofpiece|>"],
    &["eop", "<|endofpiece|>"],
];

impl Special {
    /// Finds the special tokens of a tokenizer, and adds those that it lacks after its last id.
    pub(super) fn find_or_add(tokenizer: &mut tokenizers::Tokenizer) -> Result<Self> {
        let mut next = tokenizer.get_vocab(true).into_values().max().map_or(0, |last| last + 1);
        let mut ids = [0; NAMES.len()];
        for ((id, name), aliases) in ids.iter_mut().zip(NAMES).zip(ALIASES) {
            let found = find(tokenizer, name, aliases);
            let content = found.clone().unwrap_or_else(|| name.to_owned());
            // Adding what is there keeps its id, and makes it special where it was an ordinary entry.
            add(tokenizer, &content)?;
            *id = tokenizer.token_to_id(&content).unwrap_or(u32::MAX);
            if found.is_none() {
                if *id != next {
                    bail!("the tokenizer's ids have gaps, so {name}, which it lacks, can't be added after the last id");
                }
                next += 1;
            }
        }
        let [pad, unk, cls, sep, mask, gmask, smask, sop, eop] = ids;
        Ok(Self { pad, unk, cls, sep, mask, gmask, smask, sop, eop })
    }
}

/// Adds tokens to a tokenizer as special ones.
pub(super) fn add(tokenizer: &mut tokenizers::Tokenizer, content: &str) -> Result<()> {
    tokenizer.add_special_tokens([AddedToken::from(content, true)]).map_err(anyhow::Error::from_boxed)?;
    Ok(())
}

/// The name under which a tokenizer has a special token. An entry without brackets, such as `sop`, may be an ordinary
/// word; it counts only if the tokenizer says that it's special.
fn find(tokenizer: &tokenizers::Tokenizer, name: &str, aliases: &[&str]) -> Option<String> {
    let added = tokenizer.get_added_tokens_decoder();
    let special = |name: &str| added.values().any(|token| token.special && token.content == name);
    let names = std::iter::once(name).chain(aliases.iter().copied());
    let has =
        |name: &&str| special(name) || !name.starts_with(char::is_alphabetic) && tokenizer.token_to_id(name).is_some();
    names.into_iter().find(has).map(String::from)
}
