//! What hubs' own clients read in the environment.

use std::path::PathBuf;

/// Hugging Face's folder: `HF_HOME`, or as its own client has it.
pub(super) fn home() -> Option<PathBuf> {
    var("HF_HOME").map(PathBuf::from).or_else(|| Some(caches()?.join("huggingface")))
}

/// Where programs of this user keep what they can have again.
pub(super) fn caches() -> Option<PathBuf> {
    let user = || Some(PathBuf::from(var("HOME").or_else(|| var("USERPROFILE"))?));
    var("XDG_CACHE_HOME").map(PathBuf::from).or_else(|| Some(user()?.join(".cache")))
}

/// A variable that isn't empty.
pub(super) fn var(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|value| !value.is_empty())
}
