//! Label words as the tokenizer has them: words that become the same tokens can't be told apart, and what the tokenizer
//! doesn't know is `[UNK]`.

use std::collections::HashSet;

use anyhow::Result;

use super::{
    corpora,
    tokenizers::{self, TokenizerSource, Tokenizers},
};
use crate::{
    data::text,
    network::checkpoint,
    recipe::Checked,
    spec::{Classification, Head, Tokenizer},
};

/// What is wrong with a word.
#[derive(Debug)]
pub(super) struct WordProblem {
    /// The label that it's for.
    pub(super) label: String,
    /// Whether the model can be trained all the same.
    pub(super) is_warning: bool,
    pub(super) message: String,
    pub(super) hint: &'static str,
}

/// What a word becomes.
struct Encoded<'a> {
    label: &'a str,
    word: &'a str,
    /// Its tokens; of a tokenizer that isn't there yet its characters, as far as they'll be known.
    parts: Vec<u32>,
    /// Whether one of them is unknown.
    is_unknown: bool,
}

/// Looks at the words of a task of this stage.
///
/// # Errors
/// Words that the tokenizer can't encode.
pub(super) fn check(checked: &Checked, stage: &str, task: &Classification) -> Result<Vec<WordProblem>> {
    let mut found = Vec::new();
    if task.head != Head::Prompt {
        return Ok(found);
    }
    let encoded = encoded(checked, stage, task)?;
    for (at, Encoded { label, word, parts, is_unknown }) in encoded.iter().enumerate() {
        let same = encoded[..at].iter().find(|other| other.parts == *parts);
        let (message, hint, is_warning) = if parts.is_empty() {
            (format!("the word `{word}` has no tokens"), "take another word", false)
        } else if let Some(other) = same {
            let why = if *is_unknown { ": the tokenizer knows neither, and has [UNK] for both" } else { "" };
            let message = format!("the words `{}` and `{word}` become the same tokens{why}", other.word);
            (message, "take words that the tokenizer tells apart, or train it on texts that have them", false)
        } else if *is_unknown {
            let message = format!("the tokenizer doesn't know all of the word `{word}`, and has [UNK] for it");
            (message, "take a word that the model can have learned the meaning of", true)
        } else {
            continue;
        };
        found.push(WordProblem { label: (*label).to_owned(), is_warning, message, hint });
    }
    Ok(found)
}

/// The words as the stage's tokenizer has them; none where that can't be told yet.
fn encoded<'a>(checked: &Checked, stage: &str, task: &'a Classification) -> Result<Vec<Encoded<'a>>> {
    let words = task.words.iter();
    let source = tokenizers::source(&mut Tokenizers::default(), checked, stage);
    match source.as_deref() {
        Some(TokenizerSource::Existing(path)) if !checkpoint::tokenizer(path).is_empty() => {
            // One that can't be read is told of elsewhere.
            let Ok(tokenizer) = text::Tokenizer::load(&checkpoint::tokenizer_place(path)) else {
                return Ok(Vec::new());
            };
            let encode = |(label, word): (&'a String, &'a String)| {
                let parts = tokenizer.encode(word)?;
                let is_unknown = parts.contains(&tokenizer.special.unk);
                Ok(Encoded { label, word, parts, is_unknown })
            };
            words.map(encode).collect()
        }
        // Bytes are never unknown.
        Some(TokenizerSource::Trained(tokenize)) if !matches!(tokenize.tokenizer, Tokenizer::Bpe(_)) => {
            let characters: HashSet<char> = task.words.values().flat_map(|word| word.chars()).collect();
            let unseen = corpora::unseen(tokenize, &checked.dir, characters);
            let part = |character: char| if unseen.contains(&character) { u32::MAX } else { character.into() };
            let encode = |(label, word): (&'a String, &'a String)| {
                let parts: Vec<u32> = word.trim().chars().map(part).collect();
                let is_unknown = parts.contains(&u32::MAX);
                Encoded { label, word, parts, is_unknown }
            };
            Ok(words.map(encode).collect())
        }
        _ => Ok(Vec::new()),
    }
}
