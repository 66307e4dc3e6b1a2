//! A folder of files for tests of readers.

use std::path::PathBuf;

use pipe::spec::Source;
use serde_json::{Value, json};
use tempfile::TempDir;

pub(super) struct Folder(TempDir);

impl Folder {
    pub(super) fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    pub(super) fn file(&self, name: &str, bytes: impl AsRef<[u8]>) -> PathBuf {
        let path = self.0.path().join(name);
        std::fs::write(&path, bytes).unwrap();
        path
    }

    /// Messages name files; without the folder they're the same at every run.
    pub(super) fn message(&self, error: &anyhow::Error) -> String {
        pipe::support::explained(error).replace(&format!("{}/", self.0.path().display()), "")
    }
}

/// A source of these settings; its path is not what's read.
pub(super) fn source(fields: Value) -> Source {
    let mut source = json!({"path": "unused"});
    source.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
    serde_json::from_value(source).unwrap()
}
