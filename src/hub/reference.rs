//! Which model or data set is meant, which of its files, and what comes of it.

use std::{fmt, path::PathBuf};

use anyhow::{Result, ensure};

use crate::support::Hinted;

/// What stands before a model's name where a path could stand.
const MODEL: &str = "hub:";
/// What stands before a data set's, and before the path of its files.
const DATA_SET: &str = "hub-data:";
const FILES: &str = "//";
/// What stands before the name of what is on ModelScope.
const MODEL_SCOPE: &str = "modelscope:";

/// Who has models and data sets.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Host {
    /// Hugging Face, or a mirror that speaks its protocol.
    HuggingFace,
    /// ModelScope, which has a protocol of its own.
    ModelScope,
}

impl Host {
    /// The revision that is meant where none is named.
    const fn default_revision(self) -> &'static str {
        match self {
            Self::HuggingFace => "main",
            Self::ModelScope => "master",
        }
    }
}

/// What a repository on a hub holds.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Kind {
    /// A model.
    Model,
    /// A data set.
    DataSet,
}

impl Kind {
    /// What hubs call many of them, in addresses and folders.
    pub(super) const fn plural(self) -> &'static str {
        match self {
            Self::Model => "models",
            Self::DataSet => "datasets",
        }
    }

    /// What people call one.
    pub(super) const fn noun(self) -> &'static str {
        match self {
            Self::Model => "model",
            Self::DataSet => "data set",
        }
    }

    const fn example(self) -> &'static str {
        match self {
            Self::Model => "THUDM/chatglm-6b",
            Self::DataSet => "clue/clue",
        }
    }
}

/// The name of a model or a data set, and the revision of it that is meant.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Reference {
    /// Who has it.
    pub host: Host,
    /// What it is.
    pub kind: Kind,
    /// Such as `THUDM/chatglm-6b` or `gpt2`.
    pub name: String,
    /// A branch, a tag or a commit.
    pub revision: String,
}

impl Reference {
    /// This model or data set, at a revision or as it is by now; `modelscope:` before the name says that ModelScope has it.
    ///
    /// # Errors
    /// What can't be a name or a revision; data sets of ModelScope, which aren't read.
    pub fn new(kind: Kind, written: &str, revision: Option<&str>) -> Result<Self> {
        let part = |part: &str| {
            let starts = part.starts_with(|first: char| first.is_ascii_alphanumeric() || first == '_');
            starts && !part.contains("..") && part.chars().all(|c| c.is_ascii_alphanumeric() || "._-".contains(c))
        };
        let (host, name) = match written.strip_prefix(MODEL_SCOPE) {
            Some(name) => (Host::ModelScope, name),
            None => (Host::HuggingFace, written),
        };
        let (noun, example) = (kind.noun(), kind.example());
        ensure!(
            name.split('/').count() <= 2 && name.split('/').all(part),
            Hinted::with(
                format!("`{written}` is no {noun}'s name"),
                format!("write it as the hub does, such as {example}")
            )
        );
        ensure!(
            (host, kind) != (Host::ModelScope, Kind::DataSet),
            Hinted::with(
                format!("`{written}`: data sets of ModelScope aren't read by name"),
                "name one of Hugging Face's, or fetch its files and give their `path`"
            )
        );
        let revision = revision.unwrap_or(host.default_revision());
        ensure!(!revision.is_empty() && revision.split('/').all(part), "`{revision}` is no revision of a {noun}");
        Ok(Self { host, kind, name: name.to_owned(), revision: revision.to_owned() })
    }

    /// What stands for a model where a path could stand.
    ///
    /// # Errors
    /// As [`new`](Self::new).
    pub fn of_place(place: &str) -> Option<Result<Self>> {
        Some(Self::written(Kind::Model, place.strip_prefix(MODEL)?))
    }

    /// What stands for files of a data set where their path could stand: the data set, and their path or glob in it.
    ///
    /// # Errors
    /// As [`new`](Self::new); a path that leads out of the data set.
    pub fn of_data(place: &str) -> Option<Result<(Self, &str)>> {
        let (written, path) = place.strip_prefix(DATA_SET)?.split_once(FILES)?;
        let inside = |part: &str| !matches!(part, "" | "." | "..");
        Some(Self::written(Kind::DataSet, written).and_then(|reference| {
            let hint = "name it as it stands in the data set, such as data/train-*.parquet";
            ensure!(path.split('/').all(inside), Hinted::with(format!("`{path}` is no file of {reference}"), hint));
            Ok((reference, path))
        }))
    }

    /// A name, with or without a revision behind it.
    fn written(kind: Kind, written: &str) -> Result<Self> {
        match written.split_once('@') {
            Some((name, revision)) => Self::new(kind, name, Some(revision)),
            None => Self::new(kind, written, None),
        }
    }
}

/// How a model's name, looked at or not, is written where a path could stand.
pub fn model_place(name: &str, revision: Option<&str>) -> String {
    format!("{MODEL}{}", at(name, revision))
}

/// The same for files of a data set.
pub fn data_place(name: &str, revision: Option<&str>, path: &str) -> String {
    format!("{DATA_SET}{}{FILES}{path}", at(name, revision))
}

fn at(name: &str, revision: Option<&str>) -> String {
    revision.map_or_else(|| name.to_owned(), |revision| format!("{name}@{revision}"))
}

impl fmt::Display for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { host, name, revision, .. } = self;
        let host_name = if *host == Host::ModelScope { MODEL_SCOPE } else { "" };
        write!(f, "{host_name}{name}")?;
        if revision == host.default_revision() { Ok(()) } else { write!(f, " at {revision}") }
    }
}

/// Which files are needed.
#[derive(Clone, Copy)]
pub enum Wanted<'a> {
    /// What describes a model: config, tokenizer, settings. No weights.
    Description,
    /// All that makes a model.
    Model,
    /// Those whose path in the repository this takes.
    Files(&'a dyn Fn(&str) -> bool),
}

/// The files of a model or a data set as they were at one commit.
#[derive(Clone, Debug)]
pub struct Snapshot {
    /// Where they lie.
    pub directory: PathBuf,
    /// The commit.
    pub commit: String,
}
