//! What Hugging Face's own client reads in the environment.

use std::path::PathBuf;

/// Hugging Face's folder: `HF_HOME`, or as its own client has it.
pub(super) fn home() -> Option<PathBuf> {
    let user = || Some(PathBuf::from(var("HOME").or_else(|| var("USERPROFILE"))?));
    let caches = || var("XDG_CACHE_HOME").map(PathBuf::from).or_else(|| Some(user()?.join(".cache")));
    var("HF_HOME").map(PathBuf::from).or_else(|| Some(caches()?.join("huggingface")))
}

/// A variable that isn't empty.
pub(super) fn var(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|value| !value.is_empty())
}
