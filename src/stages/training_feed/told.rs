//! What is known of an example's source.

use std::{collections::BTreeSet, path::PathBuf};

use anyhow::Result;
use serde::{Deserialize, Serialize};

use crate::{network::batch::MadeOf, spec::Source};

/// Knows what the examples of a feed are made of.
pub trait Sources: Send + Sync {
    /// What there is to say of each of these, in their order.
    ///
    /// # Errors
    /// Files that can't be read any more.
    fn tell(&self, made_of: &[MadeOf]) -> Result<Vec<Told>>;

    /// The numbers ([`MadeOf::number`]) of what stands at this place of each file: a row or a document, as it's told.
    ///
    /// # Errors
    /// Files that can't be read any more.
    fn at(&self, place: usize) -> Result<BTreeSet<u64>>;

    /// Says out of which files the corpora were encoded, source by source, where documents are to be found in them.
    fn name_files(&mut self, _corpora: Vec<(Source, Vec<PathBuf>)>) {}
}

/// What is told of an example's source.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Told {
    /// The file.
    pub file: Option<PathBuf>,
    /// The row in it, from 1, as in messages.
    pub row: Option<usize>,
    /// The document in it, or in all corpora where the file isn't known; from 1.
    pub document: Option<usize>,
    /// Which of the document's tokens.
    pub range: Option<TokenRange>,
    /// The text: a filled-in template, a conversation, a part of a document.
    pub text: Option<String>,
    /// The label, as it stands in the data.
    pub label: Option<String>,
    /// What was left out.
    pub cut: Vec<Cut>,
}

/// A run of a document's tokens.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct TokenRange {
    /// The first, from 0.
    pub start: u32,
    /// One past the last.
    pub end: u32,
    /// How many the document has.
    pub of: u32,
}

/// A part of a source that an example has only some of.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub struct Cut {
    /// Which: a column, `prompt` or `response`.
    pub part: String,
    /// How much of it there is in the example.
    pub kept: usize,
    /// How much there was.
    pub of: usize,
    /// In what that's counted: `characters` or `tokens`.
    pub unit: String,
    /// Where it was cut.
    pub place: String,
    /// What was left out, where that's known as text.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rest: Option<String>,
}

/// Sources of which nothing is known.
pub struct Unknown;

impl Sources for Unknown {
    fn tell(&self, made_of: &[MadeOf]) -> Result<Vec<Told>> {
        Ok(vec![Told::default(); made_of.len()])
    }

    fn at(&self, _: usize) -> Result<BTreeSet<u64>> {
        Ok(BTreeSet::new())
    }
}
