//! A tokenizer with its special tokens: text to ids and back.

use std::{ops::Range, path::Path};

use anyhow::{Context, Error, Result, anyhow};
use fs_err as fs;
use rayon::prelude::*;
use tokenizers::{DecoderWrapper, Model};

use super::{
    load,
    special::{self, ABSENT, Special, Specials},
    train,
};
use crate::spec;

/// A tokenizer with its [`Specials`]; in Hugging Face's `tokenizer.json` format on disk.
#[derive(Clone)]
pub struct Tokenizer {
    /// The special tokens' ids.
    pub special: Specials,
    inner: tokenizers::Tokenizer,
    /// For each id, whether text must not turn into it.
    forbidden: Vec<bool>,
}

impl Tokenizer {
    /// Reads a tokenizer's file, or what a checkpoint's directory holds: `tokenizer.json`, BERT's `vocab.txt`, GPT-2's
    /// `vocab.json` and `merges.txt`, a SentencePiece model, or tiktoken's ranks, with the special tokens that the files
    /// beside it list and name. Its truncation and padding are not taken over, and its ids are kept.
    ///
    /// # Errors
    /// If there is none, the file can't be read, or isn't a tokenizer; if config.json has other ids for the special
    /// tokens.
    pub fn load(path: &Path) -> Result<Self> {
        let (inner, settings) = load::load(path)?;
        let tokenizer = Self::new(inner, &settings.named());
        let checked = tokenizer.and_then(|tokenizer| {
            settings.check(&tokenizer.inner, &tokenizer.special)?;
            Ok(tokenizer)
        });
        checked.with_context(|| format!("{}: can't be used", path.display()))
    }

    /// Whether the settings in a directory change what its `tokenizer.json` says by itself.
    pub fn is_retold(directory: &Path) -> bool {
        load::is_retold(directory)
    }

    /// Spells texts in bytes, with the special tokens' ids as a `config.json` has them: for models without a tokenizer.
    ///
    /// # Errors
    /// If the file can't be read, or the model's vocabulary is too small.
    pub fn bytes(config: &Path) -> Result<Self> {
        Self::new(load::bytes(config)?, &[])
    }

    /// Trains a tokenizer; the same texts give the same tokenizer to the byte, in whatever order they come. The
    /// vocabulary is smaller than asked for where the texts don't have enough to fill it.
    ///
    /// # Errors
    /// If the texts give an error, hold nothing to learn from, or the specification names an existing tokenizer.
    pub fn train(spec: &spec::Tokenizer, texts: impl Iterator<Item = Result<String>>) -> Result<Self> {
        Self::new(train::train(spec, texts)?, &[])
    }

    fn new(mut inner: tokenizers::Tokenizer, named: &[(Special, String)]) -> Result<Self> {
        inner.with_truncation(None).map_err(Error::from_boxed)?;
        inner.with_padding(None);
        let special = Specials::find(&mut inner, named)?;
        // Special tokens written in a text are text.
        inner.set_encode_special_tokens(true);
        let mut forbidden = vec![false; special.vocab_size];
        for (&id, token) in &inner.get_added_tokens_decoder() {
            if let Some(forbidden) = forbidden.get_mut(id as usize) {
                *forbidden = token.special && id != special.unk;
            }
        }
        Ok(Self { special, inner, forbidden })
    }

    /// Whether it has a token that begins a text and isn't what ends one; where it puts something around a text, whether
    /// that stands before it.
    pub fn begins_texts(&self) -> bool {
        match special::frame(&self.inner) {
            (None, None) => self.special.cls != self.special.sep,
            (before, _) => before.is_some(),
        }
    }

    /// The special tokens that it puts before a text and behind it by itself.
    ///
    /// # Errors
    /// If it can't encode a text at all.
    pub fn around(&self) -> Result<[Vec<u32>; 2]> {
        let encoding = self.inner.encode_fast("a", true).map_err(Error::from_boxed)?;
        let (ids, special) = (encoding.get_ids(), encoding.get_special_tokens_mask());
        let first = special.iter().position(|&special| special == 0).unwrap_or(ids.len());
        let last = special.iter().rposition(|&special| special == 0).map_or(ids.len(), |last| last + 1);
        Ok([ids[..first].to_vec(), ids[last..].to_vec()])
    }

    /// Whether another one gives the same ids and has the same special tokens.
    pub fn is_same(&self, other: &Self) -> bool {
        let written = |tokenizer: &Self| tokenizer.inner.to_string(false).ok();
        self.special == other.special && written(self) == written(other)
    }

    /// One more than the highest id.
    pub fn vocab_size(&self) -> usize {
        self.special.vocab_size
    }

    /// A text's ids, without any special tokens: not around the text, and not where the text spells one.
    ///
    /// # Errors
    /// If the model has neither a piece nor an unknown token for a part of the text.
    pub fn encode(&self, text: &str) -> Result<Vec<u32>> {
        let encoding = self.inner.encode_fast(text, false).map_err(Error::from_boxed);
        let encoding = encoding.with_context(|| format!("failed to tokenize {:?}", shorten(text)))?;
        let ids = encoding.get_ids();
        if !ids.iter().any(|&id| self.is_forbidden(id)) {
            return Ok(ids.to_vec());
        }
        // A model whose pieces include a special token's name found it in the text: spell it.
        let mut spelt = Vec::with_capacity(ids.len() + 8);
        for &id in ids {
            self.spell(id, &mut spelt)?;
        }
        Ok(spelt)
    }

    /// The ids of [`encode`](Self::encode), parted where sentences end: at these places of the text in bytes, which rise;
    /// the last is the text's end. A token that reaches over such a place is a part of the sentence in which it has its
    /// first character that isn't white space. Sentences without tokens are left out.
    ///
    /// # Errors
    /// As [`encode`](Self::encode).
    pub fn encode_sentences(&self, text: &str, ends: &[usize]) -> Result<Vec<Vec<u32>>> {
        let Some((_, ends @ [_, ..])) = ends.split_last() else {
            let ids = self.encode(text)?;
            return Ok(if ids.is_empty() { Vec::new() } else { vec![ids] });
        };
        let encoding = self.inner.encode(text, false).map_err(Error::from_boxed);
        let encoding = encoding.with_context(|| format!("failed to tokenize {:?}", shorten(text)))?;
        let mut sentences = Vec::with_capacity(ends.len() + 1);
        let mut sentence = Vec::new();
        let (mut ends, mut before) = (ends.iter().peekable(), 0);
        for (&id, &(start, end)) in encoding.get_ids().iter().zip(encoding.get_offsets()) {
            // Some tokenizers tell the places of tokens without their white space.
            let start = if start == end { start.min(before) } else { start };
            let place = first_character(text, start..end);
            while ends.next_if(|&&end| end <= place).is_some() {
                if !sentence.is_empty() {
                    sentences.push(std::mem::take(&mut sentence));
                }
            }
            self.spell(id, &mut sentence)?;
            before = end;
        }
        if !sentence.is_empty() {
            sentences.push(sentence);
        }
        Ok(sentences)
    }

    /// Adds an id to others; a special token's is spelt.
    fn spell(&self, id: u32, to: &mut Vec<u32>) -> Result<()> {
        if !self.is_forbidden(id) {
            to.push(id);
            return Ok(());
        }
        for character in self.token(id).unwrap_or_default().chars() {
            let pieces = self.inner.get_model().tokenize(character.encode_utf8(&mut [0; 4]));
            let pieces = pieces.map_err(Error::from_boxed)?;
            let known = |id: u32| if self.is_forbidden(id) { self.special.unk } else { id };
            to.extend(pieces.iter().map(|piece| known(piece.id)).filter(|&id| id != ABSENT));
        }
        Ok(())
    }

    /// The tokenizer that finds special tokens where a text spells them, as Hugging Face's classes do by default.
    #[must_use]
    pub fn with_special_in_text(mut self) -> Self {
        self.inner.set_encode_special_tokens(false);
        self.forbidden.fill(false);
        self
    }

    /// A text's ids with where in the text each comes from, in characters; with `framed`, the tokenizer's own special
    /// tokens stand around them, with empty places.
    ///
    /// # Errors
    /// As [`Self::encode`].
    pub fn encode_with_offsets(&self, text: &str, framed: bool) -> Result<Vec<(u32, Range<usize>)>> {
        let encoding = self.inner.encode_char_offsets(text, framed).map_err(Error::from_boxed);
        let encoding = encoding.with_context(|| format!("failed to tokenize {:?}", shorten(text)))?;
        let places = encoding.get_offsets().iter().map(|&(start, end)| start..end);
        Ok(encoding.get_ids().iter().copied().zip(places).collect())
    }

    /// [`encode`](Self::encode) for each text, in parallel.
    ///
    /// # Errors
    /// As `encode`.
    pub fn encode_batch<T: AsRef<str> + Sync>(&self, texts: &[T]) -> Result<Vec<Vec<u32>>> {
        texts.par_iter().with_min_len(8).map(|text| self.encode(text.as_ref())).collect()
    }

    /// The text of some ids; with `skip_special`, without the special tokens' names.
    ///
    /// # Errors
    /// If an id is outside the vocabulary.
    pub fn decode(&self, ids: &[u32], skip_special: bool) -> Result<String> {
        if let Some(id) = ids.iter().find(|&&id| id as usize >= self.vocab_size()) {
            return Err(anyhow!("token id {id} is outside the vocabulary of {}", self.vocab_size()));
        }
        self.inner.decode(ids, skip_special).map_err(Error::from_boxed)
    }

    /// The vocabulary's entry with this id, as the model writes it.
    pub fn token(&self, id: u32) -> Option<String> {
        self.inner.id_to_token(id)
    }

    /// Whether it tells how tokens become a text; without that, each is taken for a word.
    pub fn has_decoder(&self) -> bool {
        self.inner.get_decoder().is_some()
    }

    /// The special tokens that it puts before a text by itself.
    ///
    /// # Errors
    /// As [`Self::encode`].
    pub fn beginning(&self, text: &str) -> Result<Vec<u32>> {
        let encoding = self.inner.encode_fast(text, true).map_err(Error::from_boxed)?;
        let special = encoding.get_special_tokens_mask().iter();
        let first = encoding.get_ids().iter().zip(special).take_while(|(_, special)| **special == 1);
        // Where there's no text, what would stand behind it comes first, too.
        Ok(if text.is_empty() { Vec::new() } else { first.map(|(&id, _)| id).collect() })
    }

    /// Whether its entries are bytes, each written as a letter.
    pub(super) fn is_byte_level(&self) -> bool {
        let of_bytes = |decoder: &DecoderWrapper| matches!(decoder, DecoderWrapper::ByteLevel(_));
        match self.inner.get_decoder() {
            Some(DecoderWrapper::Sequence(all)) => all.get_decoders().iter().any(of_bytes),
            Some(decoder) => of_bytes(decoder),
            None => false,
        }
    }

    /// The id of the vocabulary's entry with this name.
    pub fn id(&self, token: &str) -> Option<u32> {
        self.inner.token_to_id(token)
    }

    /// The library's own.
    pub(super) fn library(&self) -> &tokenizers::Tokenizer {
        &self.inner
    }

    /// Writes `tokenizer.json`.
    ///
    /// # Errors
    /// If the file can't be written.
    pub fn save(&self, path: &Path) -> Result<()> {
        let json = self.inner.to_string(false).map_err(Error::from_boxed)?;
        Ok(fs::write(path, json)?)
    }

    fn is_forbidden(&self, id: u32) -> bool {
        self.forbidden.get(id as usize).copied().unwrap_or_default()
    }
}

/// Where a part of a text has its first character that isn't white space; where it begins if it has none.
fn first_character(text: &str, part: Range<usize>) -> usize {
    match text.get(part.clone()).unwrap_or_default().trim_start() {
        "" => part.start,
        content => part.end - content.len(),
    }
}

fn shorten(text: &str) -> String {
    text.chars().take(40).collect()
}
