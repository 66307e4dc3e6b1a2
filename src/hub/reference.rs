//! Which model is meant, and what comes of it.

use std::{fmt, path::PathBuf};

use anyhow::{Result, ensure};

use crate::support::Hinted;

/// What stands before a model's name where a path could stand.
const SCHEME: &str = "hub:";
/// The revision that is meant where none is named.
pub const MAIN: &str = "main";

/// A model's name and the revision of it that is meant.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Reference {
    /// Such as `THUDM/chatglm-6b` or `gpt2`.
    pub name: String,
    /// A branch, a tag or a commit.
    pub revision: String,
}

impl Reference {
    /// This model, at a revision or as it is by now.
    ///
    /// # Errors
    /// What can't be a name or a revision.
    pub fn new(name: &str, revision: Option<&str>) -> Result<Self> {
        let part = |part: &str| {
            let starts = part.starts_with(|first: char| first.is_ascii_alphanumeric() || first == '_');
            starts && !part.contains("..") && part.chars().all(|c| c.is_ascii_alphanumeric() || "._-".contains(c))
        };
        ensure!(
            name.split('/').count() <= 2 && name.split('/').all(part),
            Hinted::with(format!("`{name}` is no model's name"), "write it as the hub does, such as THUDM/chatglm-6b")
        );
        let revision = revision.unwrap_or(MAIN);
        ensure!(!revision.is_empty() && revision.split('/').all(part), "`{revision}` is no revision of a model");
        Ok(Self { name: name.to_owned(), revision: revision.to_owned() })
    }

    /// How it's written where a path could stand.
    pub fn place(&self) -> String {
        let Self { name, revision } = self;
        format!("{SCHEME}{name}@{revision}")
    }

    /// What [`Self::place`] gave.
    pub fn of_place(place: &str) -> Option<Result<Self>> {
        let (name, revision) = place.strip_prefix(SCHEME)?.split_once('@')?;
        Some(Self::new(name, Some(revision)))
    }
}

impl fmt::Display for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { name, revision } = self;
        write!(f, "{name}")?;
        if revision == MAIN { Ok(()) } else { write!(f, " at {revision}") }
    }
}

/// Which files of a model are needed.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Wanted {
    /// What describes it: config, tokenizer, settings. No weights.
    Description,
    /// All that makes the model.
    Model,
}

/// A model's files as they were at one commit.
#[derive(Clone, Debug)]
pub struct Snapshot {
    /// Where they lie.
    pub directory: PathBuf,
    /// The commit.
    pub commit: String,
}
