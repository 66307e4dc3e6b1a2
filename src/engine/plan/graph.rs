//! The graph of a recipe's stages, each with all that its key depends on but the outputs of the stages before it.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::{Path, PathBuf},
};

use anyhow::{Context, Result, bail};
use indexmap::IndexMap;
use serde_json::Value;

use super::trunk::without_length;
use crate::{
    engine::store::{DigestCache, Manifest, canonical_json},
    network::checkpoint,
    recipe::{
        Checked, suggest,
        walk::{FileField, FileKind, file_fields, resolve_path, resolve_place, stage_fields},
    },
    spec::{Length, Stage},
};

/// Stages in an order in which they can run.
#[derive(Clone, Debug)]
pub struct Graph {
    nodes: IndexMap<String, Node>,
}

/// One stage.
#[derive(Clone, Debug)]
pub struct Node {
    /// Its name in the recipe.
    pub name: String,
    /// What it is to do.
    pub stage: Stage,
    /// The seed that applies to it.
    pub seed: u64,
    /// The files and directories it reads, by the field that names them.
    pub files: BTreeMap<String, Vec<PathBuf>>,
    /// Of a directory in `files`, the files that count.
    parts: BTreeMap<String, Vec<PathBuf>>,
    /// The stages it needs, by the field that names them.
    pub needs: BTreeMap<String, String>,
    /// The spec that enters the key.
    pub canonical: Value,
    /// The spec to show: defaults filled in, secrets masked.
    pub described: Value,
}

/// Output digests of the stages that a node needs, as far as they're known.
pub type Upstream<'a> = &'a dyn Fn(&str) -> Option<String>;

impl Graph {
    /// Builds the graph of a checked recipe.
    ///
    /// # Errors
    /// If an input file vanished since the check.
    pub fn new(checked: &Checked) -> Result<Self> {
        let mut nodes = IndexMap::new();
        for name in &checked.order {
            let stage = checked.recipe.stages.get(name).with_context(|| format!("there is no stage `{name}`"))?;
            nodes.insert(name.clone(), Node::new(checked, name, stage)?);
        }
        Ok(Self { nodes })
    }

    /// The stages, each after those it needs.
    pub fn nodes(&self) -> impl Iterator<Item = &Node> {
        self.nodes.values()
    }

    /// A stage by name.
    pub fn get(&self, name: &str) -> Option<&Node> {
        self.nodes.get(name)
    }

    /// Keeps the named stages and everything that they need.
    ///
    /// # Errors
    /// If there is no such stage.
    pub fn select(&mut self, names: &[String]) -> Result<()> {
        if names.is_empty() {
            return Ok(());
        }
        let mut wanted = BTreeSet::new();
        let mut queue: Vec<&String> = names.iter().collect();
        while let Some(name) = queue.pop() {
            let Some(node) = self.nodes.get(name) else { bail!(self.no_such_stage(name)) };
            if wanted.insert(name.clone()) {
                queue.extend(node.needs.values());
            }
        }
        self.nodes.retain(|name, _| wanted.contains(name));
        Ok(())
    }

    /// The message for a name that isn't a stage's.
    pub fn no_such_stage(&self, name: &str) -> String {
        let hint = suggest::did_you_mean(name, self.nodes.keys().map(String::as_str), "the stages are");
        format!("there is no stage `{name}`\nhint: {}", hint.unwrap_or_default())
    }
}

impl Node {
    fn new(checked: &Checked, name: &str, stage: &Stage) -> Result<Self> {
        let mut files = BTreeMap::new();
        let mut parts = BTreeMap::new();
        for FileField { pointer, pattern, kind } in file_fields(checked.catalog(), stage) {
            let found = match kind {
                FileKind::Files => resolve_path(&pattern, &checked.dir)?,
                FileKind::Checkpoint | FileKind::Tokenizer => {
                    let place = resolve_place(&pattern, &checked.dir);
                    let place = place.with_context(|| format!("there is no `{pattern}` any more"))?;
                    if kind == FileKind::Checkpoint {
                        parts.insert(pointer.clone(), checkpoint::files(&place));
                    } else if place.is_dir() {
                        parts.insert(pointer.clone(), checkpoint::tokenizer(&place));
                    }
                    vec![place]
                }
            };
            files.insert(pointer, found);
        }
        let needs =
            stage_fields(checked.catalog(), stage).into_iter().map(|field| (field.pointer, field.name)).collect();
        let (canonical, described) =
            (checked.canonical(name).unwrap_or_default(), checked.described(name).unwrap_or_default());
        let seed = stage.seed().unwrap_or(checked.recipe.seed);
        Ok(Self { name: name.to_owned(), stage: stage.clone(), seed, files, parts, needs, canonical, described })
    }

    /// The manifest, or `None` while the digest of a stage that it needs isn't known.
    ///
    /// # Errors
    /// If an input file can't be read.
    pub fn manifest(&self, digests: &mut DigestCache, upstream: Upstream<'_>) -> Result<Option<Manifest>> {
        let mut inputs = BTreeMap::new();
        for (field, name) in &self.needs {
            let Some(digest) = upstream(name) else { return Ok(None) };
            inputs.insert(field.clone(), digest);
        }
        for (field, paths) in &self.files {
            let digest = match self.parts.get(field) {
                Some(parts) => format!("directory:{}", digests.named(parts)?),
                None => digest_files(paths, digests)?,
            };
            inputs.insert(field.clone(), digest);
        }
        Ok(Some(Manifest {
            format: Manifest::FORMAT,
            kind: self.stage.kind().to_owned(),
            version: self.stage.version(),
            spec: self.canonical.clone(),
            inputs,
            seed: self.stage.is_random().then_some(self.seed),
        }))
    }

    /// Equal for nodes that certainly are the same computation, whatever stages before them give.
    pub fn signature(&self, rename: &dyn Fn(&str) -> String) -> String {
        self.signature_of(&self.canonical, rename)
    }

    /// Of a training that longer ones can go on from, what is equal for all those that differ in their length only; and
    /// its length.
    pub fn trunk_signature(&self) -> Option<(String, Length)> {
        let length = self.stage.train().filter(|train| train.begins_longer_ones())?.length()?;
        let spec = without_length(self.canonical.clone())?;
        Some((self.signature_of(&spec, &|name| name.to_owned()), length))
    }

    fn signature_of(&self, canonical: &Value, rename: &dyn Fn(&str) -> String) -> String {
        let needs: BTreeMap<_, _> = self.needs.iter().map(|(field, name)| (field, rename(name))).collect();
        let seed = self.stage.is_random().then_some(self.seed);
        let files: BTreeMap<_, Vec<_>> = self
            .files
            .iter()
            .map(|(field, paths)| (field, paths.iter().map(|path| path.to_string_lossy()).collect()))
            .collect();
        canonical_json(&serde_json::json!([self.stage.kind(), canonical, needs, files, seed]))
    }
}

/// Digest of what a field's files hold, in their order. How a file is read depends on its extension, so that is a part.
fn digest_files(paths: &[PathBuf], digests: &mut DigestCache) -> Result<String> {
    let one = |path: &Path, digests: &mut DigestCache| -> Result<String> {
        let extension =
            path.extension().map_or_else(String::new, |extension| extension.to_string_lossy().to_lowercase());
        Ok(format!("{extension}:{}", digests.digest(path)?))
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
