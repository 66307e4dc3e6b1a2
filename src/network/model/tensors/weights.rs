//! The weights of a checkpoint, in one file or in shards.

use std::{collections::BTreeMap, path::Path};

use anyhow::{Context, Result, bail};
use burn::tensor::Bytes;
use safetensors::tensor::TensorInfo;

use super::reader::Reader;
use crate::{network::checkpoint, support::Hinted};

/// Writes values of a tensor, those from an element on, to where they're wanted: any of them, for several threads at once.
pub(crate) type Elements<'a> = Box<dyn Fn(usize, &mut [f32]) -> Result<()> + Sync + 'a>;

/// All tensors of a checkpoint; which file one lies in doesn't matter.
pub(crate) struct Weights {
    shards: Vec<Reader>,
    /// The shard of each tensor.
    places: BTreeMap<String, usize>,
}

impl Weights {
    /// Opens all files of the weights in a checkpoint's directory and reads their headers.
    ///
    /// # Errors
    /// Files that are missing, of neither format or incomplete; shards that don't hold what the index says: all that
    /// is wrong, a line each.
    pub(crate) fn open(directory: &Path) -> Result<Self> {
        let (mut problems, mut hint) = (Vec::new(), None);
        let mut weights = Self { shards: Vec::new(), places: BTreeMap::new() };
        let files = checkpoint::weights(directory)?;
        for (file, expected) in &files {
            let path = directory.join(file);
            if !path.exists() {
                problems.push(format!("{} is missing, with {}", path.display(), some(expected)));
                continue;
            }
            match Reader::open(&path) {
                Ok(reader) => {
                    let absent = expected.iter().filter(|name| reader.info(name).is_none()).cloned();
                    let absent: Vec<String> = absent.collect();
                    if !absent.is_empty() {
                        problems.push(format!("{} lacks {}, which the index has there", path.display(), some(&absent)));
                    }
                    for name in reader.names() {
                        if weights.places.insert(name.to_owned(), weights.shards.len()).is_some() {
                            problems.push(format!("{}: {name} is in another shard as well", path.display()));
                        }
                    }
                    weights.shards.push(reader);
                }
                Err(error) => {
                    let problem = Hinted::of(&error);
                    problems.push(problem.message);
                    hint = hint.or(problem.hint);
                }
            }
        }
        if problems.is_empty() { Ok(weights) } else { bail!(Hinted::new(problems.join("\n"), hint)) }
    }

    /// The tensors' names, in their order.
    pub(crate) fn names(&self) -> impl Iterator<Item = &str> {
        self.places.keys().map(String::as_str)
    }

    /// Type and shape of a tensor, where there is one of this name.
    pub(crate) fn info(&self, name: &str) -> Option<&TensorInfo> {
        self.shard(name)?.info(name)
    }

    /// The values of a tensor, as f32.
    ///
    /// # Errors
    /// As [`Reader::read`].
    pub(crate) fn read(&self, name: &str) -> Result<Vec<f32>> {
        self.shard(name).with_context(|| format!("there is no tensor {name}"))?.read(name)
    }

    /// Whether a tensor is there, and [dense](Reader::is_dense).
    pub(crate) fn is_dense(&self, name: &str) -> bool {
        self.shard(name).is_some_and(|shard| shard.is_dense(name))
    }

    /// The values of a dense tensor's elements from `first` on, as f32.
    ///
    /// # Errors
    /// As [`Reader::read_into`].
    pub(crate) fn read_into(&self, name: &str, first: usize, out: &mut [f32]) -> Result<()> {
        self.shard(name).with_context(|| format!("there is no tensor {name}"))?.read_into(name, first, out)
    }

    /// Bytes of a dense tensor from `first` on.
    ///
    /// # Errors
    /// As [`Reader::read_at`].
    pub(crate) fn read_at(&self, name: &str, first: usize, out: &mut [u8]) -> Result<()> {
        self.shard(name).with_context(|| format!("there is no tensor {name}"))?.read_at(name, first, out)
    }

    /// The bytes of a tensor as memory that is the file's, where that can be had.
    pub(crate) fn mapped(&self, name: &str, align: usize) -> Option<Bytes> {
        self.shard(name)?.mapped(name, align)
    }

    /// The bytes of a tensor, as they are stored.
    ///
    /// # Errors
    /// As [`Reader::bytes`].
    pub(crate) fn bytes(&self, name: &str) -> Result<Vec<u8>> {
        self.shard(name).with_context(|| format!("there is no tensor {name}"))?.bytes(name)
    }

    fn shard(&self, name: &str) -> Option<&Reader> {
        self.places.get(name).map(|&shard| &self.shards[shard])
    }
}

/// The first of some names, and how many more there are.
fn some(names: &[String]) -> String {
    match names {
        [] => "nothing".to_owned(),
        [one] => one.clone(),
        [first, others @ ..] => format!("{first} and {} more tensors", others.len()),
    }
}
