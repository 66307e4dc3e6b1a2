//! Fields of settings that name files and stages: what a stage's code asks its inputs for.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use crate::engine::{executor::Inputs, store::Artifact};

/// The pointer of a field in a kind's settings, such as `data.train.path`; `*` stands for the number of an entry in a list.
///
/// Kinds list theirs in [`StageKind::FIELDS`](crate::stages::StageKind::FIELDS), and a test holds these lists against the schema.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Field(pub &'static str);

impl Field {
    /// The pointer of this entry of a list.
    pub fn at(self, index: usize) -> String {
        self.0.replacen('*', &index.to_string(), 1)
    }

    /// Where it is in a stage's settings, as a JSON pointer (RFC 6901).
    pub fn json_pointer(self) -> String {
        format!("/{}", self.0.replace('.', "/"))
    }

    /// Whether this is it, of whichever entry of a list.
    pub fn is(self, pointer: &str) -> bool {
        let mut parts = pointer.split('.');
        let same = self.0.split('.').all(|own| match parts.next() {
            Some(part) => own == part || own == "*" && part.parse::<usize>().is_ok(),
            None => false,
        });
        same && parts.next().is_none()
    }

    /// The files that it names; none where it isn't set.
    pub fn files<'a>(self, inputs: &'a Inputs<'_>) -> &'a [PathBuf] {
        inputs.files.get(self.0).map(Vec::as_slice).unwrap_or_default()
    }

    /// The one file or directory that it names.
    pub fn file<'a>(self, inputs: &'a Inputs<'_>) -> Option<&'a Path> {
        self.files(inputs).first().map(PathBuf::as_path)
    }

    /// The artifact of the stage that it names.
    pub fn artifact<'a>(self, inputs: &'a Inputs<'_>) -> Option<&'a Artifact> {
        inputs.artifacts.get(self.0)
    }

    /// The artifact of the stage that it names, where there has to be one.
    ///
    /// # Errors
    /// If it isn't set.
    pub fn needed<'a>(self, inputs: &'a Inputs<'_>) -> Result<&'a Artifact> {
        self.artifact(inputs).with_context(|| format!("`{}` was not resolved", self.0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_of_lists_are_told_by_their_number() {
        let field = Field("corpus.*.path");
        assert_eq!(field.at(12), "corpus.12.path");
        assert!(field.is("corpus.0.path") && field.is("corpus.12.path"));
        for other in ["corpus.path", "corpus.x.path", "corpus.0", "corpus.0.path.0", "train_on.0.path"] {
            assert!(!field.is(other), "{other}");
        }
    }
}
