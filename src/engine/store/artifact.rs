//! The record of a finished stage.

use std::{
    collections::BTreeMap,
    fs::Metadata,
    io::Read,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result, bail, ensure};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{Manifest, Throughput, integrity::Integrity, record};

/// Named metrics and tables of a stage, as they stand in `artifact.json` and in `--json`.
pub type Metrics = serde_json::Map<String, Value>;

/// The record's file name.
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
    /// The stage's metrics.
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
    /// Which commits the names of models on a hub stood for, as `NAME@COMMIT`, by the field.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub pinned: BTreeMap<String, String>,
    /// Text of the recipe.
    pub recipe: String,
    /// `--var` and `--set` options.
    pub overrides: Vec<String>,
    /// The device it was computed on, as it was opened: `cpu`, or such as `cuda:0 (NVIDIA H100)`.
    pub device: String,
    /// How that machine's CPU computes: `portable`, or such as `fast (AVX2)`. Older records don't have it.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub arithmetic: String,
    /// The machine it ran on.
    pub host: String,
    /// When it began, in seconds since 1970.
    pub started: f64,
    /// How long it took.
    pub seconds: f64,
    /// Of a training, how fast it was on its way.
    #[serde(default, rename = "pace", skip_serializing_if = "Throughput::is_empty")]
    pub throughput: Throughput,
    /// Of a training, some of the examples that it was given, in the form in which its kind shows them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub examples: Vec<Value>,
}

impl Artifact {
    /// Reads the record in `dir`, and sees that the files it lists are there in full; `None` if there is no directory.
    ///
    /// # Errors
    /// If the record can't be read, isn't as it was written or isn't of this directory, or if a file is missing or of
    /// another size.
    pub(super) fn read(dir: &Path) -> Result<Option<Self>> {
        let Some(artifact) = Self::record(dir)? else { return Ok(None) };
        for file in &artifact.files {
            artifact.metadata(file)?;
        }
        Ok(Some(artifact))
    }

    /// As [`Self::read`], and sees that the files are what was written.
    ///
    /// # Errors
    /// As [`Self::read`], and if a file holds other bytes.
    pub(super) fn read_verified(dir: &Path, integrity: &Integrity) -> Result<Option<Self>> {
        let Some(artifact) = Self::record(dir)? else { return Ok(None) };
        for file in &artifact.files {
            let metadata = artifact.metadata(file)?;
            let path = artifact.file(&file.path);
            ensure!(integrity.holds(&path, &metadata, &file.digest)?, "{} does not match its digest", path.display());
        }
        Ok(Some(artifact))
    }

    /// Reads the record in `dir` and nothing else.
    ///
    /// # Errors
    /// If it isn't as it was written, or isn't of this directory.
    pub fn record(dir: &Path) -> Result<Option<Self>> {
        let path = dir.join(RECORD);
        let what = || format!("failed to read the record {}", path.display());
        let text = match std::fs::File::open(&path) {
            Ok(file) => {
                let mut text = Vec::new();
                file.take(record::MAX_BYTES + 1).read_to_end(&mut text).with_context(what)?;
                text
            }
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                ensure!(!dir.exists(), "{} is missing", path.display());
                return Ok(None);
            }
            Err(error) => return Err(error).with_context(what),
        };
        let mut artifact = Self::parse(&text).with_context(what)?;
        artifact.path = dir.to_owned();
        ensure!(dir.ends_with(&artifact.key), "{} belongs to another key", path.display());
        Ok(Some(artifact))
    }

    /// Reads a record's text. Its parts have to agree: the key with the manifest, the digest with the files.
    ///
    /// # Errors
    /// If it isn't as it was written.
    pub(crate) fn parse(text: &[u8]) -> Result<Self> {
        ensure!(text.len() as u64 <= record::MAX_BYTES, "it exceeds the maximum size of a record");
        record::check(text)?;
        let artifact: Self = serde_json::from_slice(text)?;
        artifact.check()?;
        Ok(artifact)
    }

    /// The record's text.
    ///
    /// # Errors
    /// If it can't be written as JSON.
    pub(crate) fn text(&self) -> Result<Vec<u8>> {
        record::seal(self)
    }

    /// The metadata of a file that must be there in full.
    pub(super) fn metadata(&self, file: &FileRecord) -> Result<Metadata> {
        let path = self.file(&file.path);
        let metadata = match std::fs::metadata(&path) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => bail!("{} is missing", path.display()),
            found => found.with_context(|| format!("failed to read {}", path.display()))?,
        };
        ensure!(
            metadata.len() == file.bytes && metadata.is_file(),
            "{} is damaged: {} bytes instead of {}",
            path.display(),
            metadata.len(),
            file.bytes
        );
        Ok(metadata)
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

/// BLAKE3 over the files' paths and digests, each ended by a byte that can't stand in it.
pub(super) fn output_digest(files: &[FileRecord]) -> String {
    let mut hasher = blake3::Hasher::new();
    for file in files {
        hasher.update(file.path.as_bytes()).update(&[0]).update(file.digest.as_bytes()).update(&[0]);
    }
    hasher.finalize().to_hex().to_string()
}
