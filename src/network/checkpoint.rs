//! A directory with a model in Hugging Face's layout: which of its files make the model, and what to say of a directory
//! that has none. Nothing else in such a directory is looked at, and nothing in it is ever run.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result, bail, ensure};
use fs_err as fs;
use serde::Deserialize;
use serde_json::Value;

use crate::support::Hinted;

/// What the model is: its family, its sizes, its special tokens.
pub const CONFIG: &str = "config.json";
/// The weights, in one file.
pub const WEIGHTS: &str = "model.safetensors";
/// Which of several files each weight is in.
pub const INDEX: &str = "model.safetensors.index.json";

/// How files of pickled weights end.
const PICKLES: [&str; 5] = ["bin", "pt", "pth", "ckpt", "pkl"];

/// What an adapter is, and where its model lies.
pub const ADAPTER: &str = "adapter_config.json";
/// An adapter's weights.
pub const ADAPTER_WEIGHTS: &str = "adapter_model.safetensors";
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
/// What it says is a path from that directory or, as PEFT means it, from the working directory. A folder `adapter` that was
/// moved together with its model is found above it.
pub fn base(directory: &Path) -> PathBuf {
    if directory.join(CONFIG).is_file() || !directory.join(ADAPTER).is_file() {
        return directory.to_owned();
    }
    let read = || -> Option<String> {
        let config: Value = serde_json::from_slice(&fs::read(directory.join(ADAPTER)).ok()?).ok()?;
        Some(config.get(BASE)?.as_str()?.to_owned())
    };
    let named = read().filter(|name| !name.is_empty());
    let beside = named.as_ref().map(|name| directory.join(name));
    let is_beside_model = directory.canonicalize().is_ok_and(|place| place.ends_with(ADAPTER_FOLDER));
    let above = is_beside_model.then(|| directory.join(".."));
    let places = [beside, above, named.map(PathBuf::from)].into_iter().flatten();
    let mut models = places.filter(|place| place.join(CONFIG).is_file());
    models.next().unwrap_or_else(|| directory.to_owned())
}

/// The files of the weights with the tensors that the index says are in each; of a single file it says nothing.
///
/// # Errors
/// A directory without weights, or with pickled ones, and an index that can't be followed.
pub fn weights(directory: &Path) -> Result<BTreeMap<String, Vec<String>>> {
    if directory.join(WEIGHTS).exists() {
        return Ok(BTreeMap::from([(WEIGHTS.to_owned(), Vec::new())]));
    }
    let path = directory.join(INDEX);
    if !path.exists() {
        bail!(without_weights(directory));
    }
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
    let index = directory.join(INDEX).is_file().then(|| INDEX.to_owned());
    Ok(weights(directory)?.into_keys().chain(index).collect())
}

/// What to say of a directory that has no weights which can be read.
fn without_weights(directory: &Path) -> Hinted {
    let pickles = pickles(directory);
    let Some(first) = pickles.first() else {
        return Hinted::new(format!("{} has neither {WEIGHTS} nor {INDEX}", directory.display()), None);
    };
    let others = if pickles.len() > 1 { format!(" and {} more", pickles.len() - 1) } else { String::new() };
    let message = format!(
        "{} has its weights in pickles ({first}{others}), which can run code when they're read, so they aren't",
        directory.display()
    );
    Hinted::with(message, format!("convert them in that directory: {}", convert(&pickles)))
}

/// The names of the pickled weights in a directory, in their order.
fn pickles(directory: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(directory).into_iter().flatten().flatten();
    let names = entries.map(|entry| entry.file_name().to_string_lossy().into_owned());
    let mut names: Vec<String> = names.filter(|name| is_pickle(Path::new(name))).collect();
    names.sort();
    names
}

/// Whether a file's name is that of pickled weights. What else training leaves behind has such names, too.
pub fn is_pickle(path: &Path) -> bool {
    let name = path.file_stem().unwrap_or_default().to_string_lossy();
    let state = ["training_args", "optimizer", "scheduler", "rng_state"].iter().any(|other| name.starts_with(other));
    path.extension().is_some_and(|extension| PICKLES.iter().any(|pickle| extension == *pickle)) && !state
}

/// A command that makes one safetensors file of pickles without running what's in them.
fn convert(pickles: &[String]) -> String {
    let files: Vec<String> = pickles.iter().map(|name| format!("{name:?}")).collect();
    format!(
        "python -c 'import torch, safetensors.torch as s; s.save_file({{k: v.clone().contiguous() for f in [{}] for k, \
         v in torch.load(f, map_location=\"cpu\", weights_only=True).items()}}, \"{WEIGHTS}\", {{\"format\": \"pt\"}})'",
        files.join(", ")
    )
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
    for place in [directory.to_owned(), directory.join(ADAPTER_FOLDER)] {
        files.extend(present(&place, &[ADAPTER, ADAPTER_WEIGHTS]));
    }
    let weights = weights(base).unwrap_or_default();
    files.extend(weights.into_keys().map(|name| base.join(name)).filter(|path| path.exists()));
    files
}

fn present(directory: &Path, names: &[&str]) -> Vec<PathBuf> {
    names.iter().map(|name| directory.join(name)).filter(|path| path.is_file()).collect()
}
