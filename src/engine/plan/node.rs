//! A stage of the graph: what it is to do, as data, and all that its key depends on but the outputs of the stages before
//! it. The engine compares, hashes and passes on what stands here, and understands none of it.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use anyhow::Result;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::engine::store::{DigestCache, Manifest, canonical_json};

/// One stage.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub struct Node {
    /// Its name, as people know it.
    pub name: String,
    /// The name of its kind.
    pub kind: String,
    /// The version of the kind's code.
    pub version: u32,
    /// All its settings, as its runner takes them. They may hold secrets: nothing of this is stored or shown.
    pub settings: Value,
    /// The spec that enters the key.
    pub canonical: Value,
    /// The spec to show: defaults filled in, secrets masked.
    pub described: Value,
    /// The seed that applies to it.
    pub seed: u64,
    /// The same, where the stage draws random numbers, so that it's a part of the key.
    pub key_seed: Option<u64>,
    /// The files and directories that it reads, by the field that names them.
    pub files: BTreeMap<String, Vec<PathBuf>>,
    /// Of a directory in `files`, the files that count.
    pub parts: BTreeMap<String, Vec<PathBuf>>,
    /// What was meant where a name in `files` can mean something else another day, by the field; for records.
    #[serde(default)]
    pub pinned: BTreeMap<String, String>,
    /// The stages that it needs, by the field that names them.
    pub needs: BTreeMap<String, String>,
    /// What it shares with longer stages of its kind, where these can begin with what it has done.
    pub trunk: Option<Trunk>,
}

/// A stage whose work is the beginning of that of longer ones, which are otherwise the same.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub struct Trunk {
    /// The spec that enters the key, without the length.
    pub canonical: Value,
    /// How long this one is.
    pub length: Length,
}

/// How long a stage works.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Length {
    /// So many steps.
    Steps(usize),
    /// So many passes over the data.
    Epochs(f64),
}

impl Length {
    /// Whether it's as much as another one or more; unknown for steps beside epochs.
    pub fn reaches(self, other: Self) -> Option<bool> {
        match (self, other) {
            (Self::Steps(steps), Self::Steps(others)) => Some(steps >= others),
            (Self::Epochs(epochs), Self::Epochs(others)) => Some(epochs >= others),
            _ => None,
        }
    }
}

/// How far a stage came, by its state.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Serialize)]
pub struct Reached {
    /// Steps done.
    pub step: usize,
    /// Of a finished stage, how long it was to be.
    pub length: Option<Length>,
}

/// Output digests of the stages that a node needs, as far as they're known.
pub type Upstream<'a> = &'a dyn Fn(&str) -> Option<String>;

/// Digests of the files that a node reads, by the field that names them.
pub type FileDigests = BTreeMap<String, String>;

impl Node {
    /// The files that it reads, those of directories as far as they count.
    pub fn read_files(&self) -> impl Iterator<Item = PathBuf> {
        self.files.iter().flat_map(|(field, paths)| self.parts.get(field).unwrap_or(paths)).cloned()
    }

    /// Digests of the files that it reads.
    ///
    /// # Errors
    /// If one can't be read.
    pub fn file_digests(&self, digests: &mut DigestCache) -> Result<FileDigests> {
        let digest = |(field, paths): (&String, &Vec<PathBuf>)| {
            let digest = match self.parts.get(field) {
                Some(parts) => format!("directory:{}", digests.named(parts)?),
                None => self.digest_files(field, paths, digests)?,
            };
            Ok((field.clone(), digest))
        };
        self.files.iter().map(digest).collect()
    }

    /// Digest of what a field's files hold, in their order. How a file is read depends on its extension, so that is a part,
    /// and what else is noted of that.
    fn digest_files(&self, field: &str, paths: &[PathBuf], digests: &mut DigestCache) -> Result<String> {
        let one = |path: &Path, digests: &mut DigestCache| -> Result<String> {
            let extension =
                path.extension().map_or_else(String::new, |extension| extension.to_string_lossy().to_lowercase());
            let note = digests.noted(&self.settings, field, path)?;
            Ok(format!("{extension}{note}:{}", digests.digest(path)?))
        };
        if let [path] = paths {
            return one(path, digests);
        }
        let mut hasher = blake3::Hasher::new();
        for path in paths {
            hasher.update(one(path, digests)?.as_bytes()).update(&[0]);
        }
        Ok(format!("{} files:{}", paths.len(), hasher.finalize().to_hex()))
    }

    /// The manifest, or `None` while the digest of a stage that it needs isn't known.
    pub fn manifest(&self, files: &FileDigests, upstream: Upstream<'_>) -> Option<Manifest> {
        let mut inputs = BTreeMap::new();
        for (field, name) in &self.needs {
            inputs.insert(field.clone(), upstream(name)?);
        }
        inputs.extend(files.iter().map(|(field, digest)| (field.clone(), digest.clone())));
        Some(Manifest {
            format: Manifest::FORMAT,
            kind: self.kind.clone(),
            version: self.version,
            spec: self.canonical.clone(),
            inputs,
            seed: self.key_seed,
        })
    }

    /// The key of what it shares with longer stages, by its manifest.
    pub fn trunk_key(&self, manifest: &Manifest) -> Option<String> {
        let mut manifest = manifest.clone();
        manifest.kind.push_str(" of any length");
        manifest.spec = self.trunk.as_ref()?.canonical.clone();
        Some(manifest.key())
    }

    /// Equal for nodes that certainly are the same computation, whatever stages before them give.
    pub fn signature(&self, rename: &dyn Fn(&str) -> String) -> String {
        self.signature_of(&self.canonical, rename)
    }

    /// What is equal for all stages that differ in their length only, and the length; of those that longer ones can begin
    /// with.
    pub fn trunk_signature(&self) -> Option<(String, Length)> {
        let trunk = self.trunk.as_ref()?;
        Some((self.signature_of(&trunk.canonical, &|name| name.to_owned()), trunk.length))
    }

    fn signature_of(&self, canonical: &Value, rename: &dyn Fn(&str) -> String) -> String {
        let needs: BTreeMap<_, _> = self.needs.iter().map(|(field, name)| (field, rename(name))).collect();
        let files: BTreeMap<_, Vec<_>> = self
            .files
            .iter()
            .map(|(field, paths)| (field, paths.iter().map(|path| path.to_string_lossy()).collect()))
            .collect();
        canonical_json(&serde_json::json!([self.kind, canonical, needs, files, self.key_seed]))
    }
}
