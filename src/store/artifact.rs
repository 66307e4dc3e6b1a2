//! The record of a finished stage.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::Manifest;

/// Named figures and tables of a stage, as they stand in `artifact.json` and in `--json`.
pub type Metrics = serde_json::Map<String, Value>;

/// The record's file name; its presence in `artifacts/KEY` goes with the whole directory's.
pub(super) const RECORD: &str = "artifact.json";

/// A finished stage: what it was computed from, what came out, and how it went.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct Artifact {
    /// The manifest's key.
    pub key: String,
    /// What it was computed from.
    pub manifest: Manifest,
    /// Digest of the output: of the files' paths and bytes, nothing else.
    pub digest: String,
    /// The files.
    pub files: Vec<FileRecord>,
    /// The stage's figures.
    pub metrics: Metrics,
    /// How it came about; not part of any digest.
    pub provenance: Provenance,
    /// Where it lies.
    #[serde(skip)]
    pub path: PathBuf,
}

/// One file of an artifact.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct FileRecord {
    /// Path within the artifact, with `/` between its parts.
    pub path: String,
    /// Size.
    pub bytes: u64,
    /// BLAKE3 of the bytes.
    pub digest: String,
}

/// How an artifact came about.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
pub struct Provenance {
    /// Version of the program.
    pub pipe: String,
    /// Name of the stage in the recipe that computed it.
    pub stage: String,
    /// The spec with all defaults, paths and names, as far as they may be shown.
    pub spec: Value,
    /// Text of the recipe.
    pub recipe: String,
    /// `--var` and `--set` options.
    pub overrides: Vec<String>,
    /// The device it was computed on, as it was opened: `cpu`, or such as `cuda:0 (NVIDIA H100)`.
    pub device: String,
    /// The machine it ran on.
    pub host: String,
    /// When it began, in seconds since 1970.
    pub started: f64,
    /// How long it took.
    pub seconds: f64,
}

impl Artifact {
    /// Reads the record in `dir`; `None` if there is none.
    ///
    /// # Errors
    /// If the record can't be read, or isn't of this directory, or if a file that it lists is missing or cut short.
    pub(super) fn read(dir: &Path) -> Result<Option<Self>> {
        let path = dir.join(RECORD);
        let text = match std::fs::read_to_string(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error).with_context(|| format!("failed to read {}", path.display())),
        };
        let mut artifact: Self =
            serde_json::from_str(&text).with_context(|| format!("failed to read the record {}", path.display()))?;
        artifact.path = dir.to_owned();
        ensure!(dir.ends_with(&artifact.key), "{} is the record of another key", path.display());
        for file in &artifact.files {
            let path = artifact.file(&file.path);
            let bytes = std::fs::metadata(&path).map(|metadata| metadata.len()).ok();
            ensure!(bytes == Some(file.bytes), "{} is missing or not as it was written", path.display());
        }
        Ok(Some(artifact))
    }

    /// Path of one of its files.
    pub fn file(&self, name: &str) -> PathBuf {
        self.path.join(name)
    }

    /// Size of all files.
    pub fn bytes(&self) -> u64 {
        self.files.iter().map(|file| file.bytes).sum()
    }
}
