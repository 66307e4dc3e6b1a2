//! After a power cut only that is there which was synced. So whatever makes other files count is written under another name,
//! synced, renamed, and its folder synced; and what it makes count was synced before.

use std::path::Path;

use super::injected::Bench;
use crate::common::need;

/// A change of a file of the store, by a name from there.
struct Change {
    what: String,
    path: String,
    /// What it's renamed to.
    to: String,
}

impl Change {
    fn is(&self, what: &str, path: &str) -> bool {
        self.what == what && self.path == path
    }

    /// Whether there are other bytes, or another name, in or below a path.
    fn fills(&self, path: &str) -> bool {
        ["open", "write", "ftruncate", "link"].contains(&&*self.what) && Path::new(&self.path).starts_with(path)
    }
}

/// The changes that a command makes to a store.
fn changes(bench: &Bench, store: &Path, arguments: &[&str]) -> Vec<Change> {
    let told = store.with_file_name("told");
    let _ = std::fs::remove_file(&told);
    let (output, told) = bench.strike(store, arguments, "log", 0);
    assert_eq!(output.status, 0, "{arguments:?}: {}", output.stderr);
    let root = format!("{}/", store.display());
    let name = |path: &str| path.strip_prefix(&root).unwrap_or(".").to_owned();
    let change = |line: &str| {
        let (what, paths) = line.split_once(' ').expect("a change and where");
        let (path, to) = paths.split_once('\t').unwrap_or((paths, ""));
        Change { what: what.to_owned(), path: name(path), to: name(to) }
    };
    told.expect("what was changed").lines().map(change).collect()
}

/// Whether a file is one that makes others count.
fn counts(path: &str) -> bool {
    let (folder, name) = path.rsplit_once('/').unwrap_or(("", path));
    let is_entry = ["pins", "leases", "artifacts"].contains(&folder) && !name.starts_with('.');
    is_entry || path == "format" || name == "state.json"
}

/// Whether a temporary file is of one that makes others count; those of the root may be of a cache.
fn is_for_one_that_counts(path: &str) -> bool {
    path.rsplit_once('/').is_some_and(|(folder, name)| ["pins", "leases"].contains(&folder) && name.starts_with('.'))
}

fn hold_true(changes: &[Change]) -> usize {
    let mut seen = 0;
    let folder = |path: &str| path.rsplit_once('/').map_or(".", |(folder, _)| folder).to_owned();
    let synced = |from: usize, path: &str| changes[from..].iter().any(|change| change.is("fsync", path));
    for (at, change) in changes.iter().enumerate() {
        let Change { what, path, to } = change;
        assert!(!(counts(path) && ["open", "write", "ftruncate"].contains(&&**what)), "{what} {path}: in its place");
        // An old artifact that's set aside counts no more.
        if what == "rename" && counts(to) {
            for (filled, other) in changes[..at].iter().enumerate().filter(|(_, other)| other.fills(path)) {
                let is_synced = changes[filled..at].iter().any(|change| change.is("fsync", &other.path));
                assert!(is_synced, "{path} becomes {to}, and {} isn't synced", other.path);
            }
            assert!(synced(at, &folder(to)), "{to}: its folder isn't synced");
            seen += 1;
        }
        if what == "write" && is_for_one_that_counts(path) {
            assert!(synced(at, path) && synced(at, &folder(path)), "{path}: it, or its folder, isn't synced");
            seen += 1;
        }
    }
    seen
}

#[test]
fn whatever_makes_others_count_is_synced_before_it_does() {
    let bench = need!(Bench::get());
    let dir = tempfile::tempdir().expect("a folder");
    let store = dir.path().join("store");
    // Two artifacts, three states, two leases.
    assert_eq!(hold_true(&changes(bench, &store, &["run", "recipe.yaml", "--json"])), 7);
    let key = bench.keys.iter().next().expect("a key");
    assert_eq!(hold_true(&changes(bench, &store, &["pin", key, "--name", "kept"])), 1);
    // What replaces an artifact sets the old one aside.
    assert!(hold_true(&changes(bench, &store, &["run", "recipe.yaml", "--json", "--force", "base"])) >= 3);
}
