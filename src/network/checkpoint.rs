//! A directory with a model in Hugging Face's layout: which of its files make the model, and what to say of a directory
//! that has none. Nothing else in such a directory is looked at, and nothing in it is ever run.
//!
//! The weights are safetensors or, where there are none, what PyTorch wrote. An adapter's model may be on a hub.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result, bail, ensure};
use fs_err as fs;
use serde::Deserialize;
use serde_json::Value;

use crate::{
    hub::{self, Kind, Reference, Snapshot, Wanted},
    support::Hinted,
};

/// What the model is: its family, its sizes, its special tokens.
pub const CONFIG: &str = "config.json";
/// The weights, in one file.
pub const WEIGHTS: &str = "model.safetensors";
/// Which of several files each weight is in.
pub const INDEX: &str = "model.safetensors.index.json";
/// The same two as PyTorch writes them.
const TORCH_WEIGHTS: &str = "pytorch_model.bin";
const TORCH_INDEX: &str = "pytorch_model.bin.index.json";
/// How the names of PyTorch's files end.
const TORCH_ENDINGS: [&str; 4] = ["bin", "pt", "pth", "ckpt"];
/// Parts of the names of those that are no weights of a model: what training leaves behind, and adapters.
const NO_WEIGHTS: [&str; 6] = ["training_args", "optimizer", "optim_states", "scheduler", "rng_state", "adapter_model"];

/// What an adapter is, and where its model lies.
pub const ADAPTER: &str = "adapter_config.json";
/// An adapter's weights.
pub const ADAPTER_WEIGHTS: &str = "adapter_model.safetensors";
/// The same as PyTorch writes them, which PEFT did formerly.
const TORCH_ADAPTER_WEIGHTS: &str = "adapter_model.bin";
/// The folder of an adapter beside the model that it belongs to.
pub const ADAPTER_FOLDER: &str = "adapter";
/// The key that says where an adapter's model lies.
pub const BASE: &str = "base_model_name_or_path";

/// Files that belong to a tokenizer.
const TOKENIZER: [&str; 13] = [
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "chat_template.jinja",
    "vocab.txt",
    "vocab.json",
    "merges.txt",
    "ice_text.model",
    "cog-pretrain.model",
    "tokenizer.model",
    "sentencepiece.model",
    "spiece.model",
];

/// Those that have no vocabulary.
const BESIDE: [&str; 4] =
    ["tokenizer_config.json", "special_tokens_map.json", "added_tokens.json", "chat_template.jinja"];

/// Files that say how the model is used, without a part in what it is.
const SETTINGS: [&str; 1] = [GENERATION];
/// How it writes.
pub const GENERATION: &str = "generation_config.json";

#[derive(Deserialize)]
struct Index {
    weight_map: BTreeMap<String, String>,
}

/// The directory of the model itself: another one for a directory that only has an adapter and says whose.
///
/// What it says is a path from that directory or, as PEFT means it, from the working directory, or else the name of a model on
/// a hub, which [`fetch_base`] brings here. A folder `adapter` that was moved together with its model is found above it.
pub fn base(directory: &Path) -> PathBuf {
    let by_name =
        || hub::cached(&base_on_hub(directory)?).map(|snapshot| snapshot.directory).filter(|place| is_model(place));
    base_here(directory).or_else(by_name).unwrap_or_else(|| directory.to_owned())
}

/// Sees to it that the model of a directory that only has an adapter is in the cache, where that names one on a hub. Tells which.
///
/// # Errors
/// As [`hub::fetch`].
pub fn fetch_base(directory: &Path) -> Result<Option<(Reference, Snapshot)>> {
    fetch_of_base(directory, Wanted::Model)
}

/// The same of what describes that model, without its weights.
///
/// # Errors
/// As [`hub::fetch`].
pub fn describe_base(directory: &Path) -> Result<()> {
    fetch_of_base(directory, Wanted::Description).map(|_| ())
}

fn fetch_of_base(directory: &Path, wanted: Wanted) -> Result<Option<(Reference, Snapshot)>> {
    let reference = if base_here(directory).is_none() { base_on_hub(directory) } else { None };
    let Some(reference) = reference else { return Ok(None) };
    let whose = || format!("{} is an adapter of `{}`, which is no directory here", directory.display(), reference.name);
    let snapshot = hub::fetch(&reference, wanted).with_context(whose)?;
    Ok(Some((reference, snapshot)))
}

/// The directory of the model, unless it isn't one on this machine that an adapter names.
fn base_here(directory: &Path) -> Option<PathBuf> {
    if is_model(directory) || !directory.join(ADAPTER).is_file() {
        return Some(directory.to_owned());
    }
    let named = named_base(directory).map(|(name, _)| name);
    let beside = named.as_ref().map(|name| directory.join(name));
    let is_beside_model = directory.canonicalize().is_ok_and(|place| place.ends_with(ADAPTER_FOLDER));
    let above = is_beside_model.then(|| directory.join(".."));
    [beside, above, named.map(PathBuf::from)].into_iter().flatten().find(|place| is_model(place))
}

fn base_on_hub(directory: &Path) -> Option<Reference> {
    let (name, revision) = named_base(directory)?;
    Reference::new(Kind::Model, &name, revision.as_deref()).ok()
}

/// What an adapter says of its model: where it is, and at which revision.
fn named_base(directory: &Path) -> Option<(String, Option<String>)> {
    let config: Value = serde_json::from_slice(&fs::read(directory.join(ADAPTER)).ok()?).ok()?;
    let text = |key| config.get(key)?.as_str().filter(|text| !text.is_empty()).map(str::to_owned);
    Some((text(BASE)?, text("revision")))
}

fn is_model(directory: &Path) -> bool {
    directory.join(CONFIG).is_file()
}

/// How the weights lie in a directory.
enum Layout {
    /// In a file of this name.
    One(String),
    /// In those that the index of this name lists.
    Listed(&'static str),
}

impl Layout {
    /// What transformers would take, or the only file of PyTorch's that may have weights, whatever its name.
    fn of(directory: &Path) -> Option<Self> {
        for (weights, index) in [(WEIGHTS, INDEX), (TORCH_WEIGHTS, TORCH_INDEX)] {
            if directory.join(weights).exists() {
                return Some(Self::One(weights.to_owned()));
            }
            if directory.join(index).exists() {
                return Some(Self::Listed(index));
            }
        }
        let mut others = torch_files(directory).into_iter();
        others.next().filter(|_| others.next().is_none()).map(Self::One)
    }

    fn index(&self) -> Option<&'static str> {
        match self {
            Self::One(_) => None,
            Self::Listed(index) => Some(index),
        }
    }
}

/// The files of the weights with the tensors that the index says are in each; of a single file it says nothing.
///
/// # Errors
/// A directory without weights, or with several files that may have them, and an index that can't be followed.
pub fn weights(directory: &Path) -> Result<BTreeMap<String, Vec<String>>> {
    let path = match Layout::of(directory) {
        Some(Layout::One(file)) => return Ok(BTreeMap::from([(file, Vec::new())])),
        Some(Layout::Listed(index)) => directory.join(index),
        None => bail!(without_weights(directory)),
    };
    let broken = || format!("{} doesn't say which file each tensor is in", path.display());
    let Index { weight_map } = serde_json::from_slice(&fs::read(&path)?).with_context(broken)?;
    let mut files: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for (tensor, file) in weight_map {
        let plain = Path::new(&file).file_name().is_some_and(|name| name == file.as_str());
        ensure!(plain, "{}: {tensor} is in `{file}`, which is no file of that directory", path.display());
        files.entry(file).or_default().push(tensor);
    }
    ensure!(!files.is_empty(), "{} names no tensors", path.display());
    Ok(files)
}

/// The files of the weights and the index of these files.
///
/// # Errors
/// As [`weights`].
pub fn weight_files(directory: &Path) -> Result<Vec<String>> {
    let index = Layout::of(directory).and_then(|layout| layout.index()).map(str::to_owned);
    Ok(weights(directory)?.into_keys().chain(index).collect())
}

/// Whether the weights of the model lie there as safetensors, or not at all.
pub fn has_safetensors(directory: &Path) -> bool {
    match Layout::of(directory) {
        Some(Layout::One(file)) => file == WEIGHTS,
        Some(Layout::Listed(index)) => index == INDEX,
        None => true,
    }
}

/// What to say of a directory whose weights aren't found.
fn without_weights(directory: &Path) -> Hinted {
    let files = torch_files(directory);
    let [first, others @ ..] = &files[..] else {
        let message =
            format!("{} has none of {WEIGHTS}, {INDEX}, {TORCH_WEIGHTS} and {TORCH_INDEX}", directory.display());
        return Hinted::new(message, None);
    };
    let message = format!(
        "{} has {} files that may have the weights ({first}, {}), and no {TORCH_INDEX} says which do",
        directory.display(),
        files.len(),
        others.join(", ")
    );
    Hinted::with(message, format!("call the one that has them {TORCH_WEIGHTS}, or put it into a directory of its own"))
}

/// The names of PyTorch's files in a directory that may have weights, in their order.
fn torch_files(directory: &Path) -> Vec<String> {
    let may_have_weights = |name: &String| {
        let extension = Path::new(name).extension().unwrap_or_default();
        TORCH_ENDINGS.iter().any(|ending| extension == *ending) && !NO_WEIGHTS.iter().any(|part| name.contains(part))
    };
    let entries = std::fs::read_dir(directory).into_iter().flatten().flatten();
    let names = entries.map(|entry| entry.file_name().to_string_lossy().into_owned());
    let mut names: Vec<String> = names.filter(may_have_weights).collect();
    names.sort();
    names
}

/// The name of the file with the weights of the adapter in a directory.
pub fn adapter_weights(directory: &Path) -> &'static str {
    let has = |name: &str| directory.join(name).exists();
    if !has(ADAPTER_WEIGHTS) && has(TORCH_ADAPTER_WEIGHTS) { TORCH_ADAPTER_WEIGHTS } else { ADAPTER_WEIGHTS }
}

/// The files that belong to a tokenizer, of those that a directory has: none where no file has a vocabulary. A path to a
/// file is that file. Where a directory has an adapter and no tokenizer, it's that of the adapter's model.
pub fn tokenizer(path: &Path) -> Vec<PathBuf> {
    let place = tokenizer_place(path);
    if place.is_dir() { own_tokenizer(&place) } else { vec![place] }
}

fn own_tokenizer(directory: &Path) -> Vec<PathBuf> {
    let files = present(directory, &TOKENIZER);
    let beside = |file: &PathBuf| BESIDE.iter().any(|name| file.ends_with(name));
    if files.iter().all(beside) { Vec::new() } else { files }
}

/// The files of the model in a directory that say how it's used.
pub fn settings(directory: &Path) -> Vec<PathBuf> {
    present(&base(directory), &SETTINGS)
}

/// Where the tokenizer of a directory lies: in another one, if that has only an adapter.
pub fn tokenizer_place(path: &Path) -> PathBuf {
    let is_adapter = path.join(ADAPTER).is_file() && own_tokenizer(path).is_empty();
    if is_adapter { base(path) } else { path.to_owned() }
}

/// The files beside the weights that a copy of the model takes along: `config.json`, the tokenizer's, settings. Of an
/// adapter they are its model's, but for a tokenizer of its own.
pub fn companions(directory: &Path) -> Vec<PathBuf> {
    let base = &base(directory);
    [present(base, &[CONFIG]), present(base, &SETTINGS), tokenizer(directory)].concat()
}

/// All files that make the model, as far as they're there: what its identity is made of.
pub fn files(directory: &Path) -> Vec<PathBuf> {
    let base = &base(directory);
    let mut files = companions(directory);
    files.extend(present(base, &[INDEX]));
    let index = Layout::of(base).and_then(|layout| layout.index()).filter(|index| *index != INDEX);
    files.extend(index.map(|index| base.join(index)));
    for place in [directory.to_owned(), directory.join(ADAPTER_FOLDER)] {
        files.extend(present(&place, &[ADAPTER, adapter_weights(&place)]));
    }
    let weights = weights(base).unwrap_or_default();
    files.extend(weights.into_keys().map(|name| base.join(name)).filter(|path| path.exists()));
    files
}

fn present(directory: &Path, names: &[&str]) -> Vec<PathBuf> {
    names.iter().map(|name| directory.join(name)).filter(|path| path.is_file()).collect()
}
