//! `pipe verify`.

use std::{collections::BTreeSet, path::Path};

use anyhow::Result;
use serde_json::{Value, json};

use super::{
    args::Verify,
    console::{self, bytes, count},
    exit::Exit,
    load::{self, RemoteChoice},
    progress::ProgressReporter,
};
use crate::engine::{
    remote::{Remote, RemoteVerification},
    store::{Damage, Store, Verification, short},
};

/// `pipe verify [KEY…]`: of the store and, if one is named, of the remote.
pub(super) fn verify(command: &Verify, store: &Path, remote: Option<RemoteChoice<'_>>) -> Result<Exit> {
    let session = load::session(store, remote)?;
    let store = session.store();
    let keys = match command.keys.as_slice() {
        [] => store.keys()?,
        prefixes => keys_of(prefixes, store, session.remote().map(|remote| &**remote))?,
    };
    let progress = ProgressReporter::new();
    progress.start("verify");
    let found =
        store.verify(&keys, &|done, total| progress.advance("verify", done as u64, total as u64, "files", None))?;
    progress.stop("verify");
    let there = session.remote().map(|remote| of_remote(remote, &keys, command.keys.is_empty()));
    // What the store has was read, whatever the remote answers.
    let (there, unasked) = match there.transpose() {
        Ok(there) => (there, None),
        Err(error) => (None, Some(console::error_text(&error))),
    };

    if command.json {
        let mut value = json(&found);
        if let (Some(remote), Some(there)) = (session.remote(), &there) {
            let mut found = json(&there.found);
            found["url"] = remote.url().into();
            found["absent"] = json!(there.absent);
            found["differing"] = json!(there.differing);
            value["remote"] = found;
        }
        if let (Some(remote), Some(error)) = (session.remote(), &unasked) {
            value["remote"] = json!({ "url": remote.url(), "error": error });
        }
        console::print(&serde_json::to_string_pretty(&value)?)?;
    } else {
        for damage in found.damage.iter().chain(there.iter().flat_map(|there| &there.found.damage)) {
            let stage = damage.stage.as_ref().map(|stage| format!(" of `{stage}`")).unwrap_or_default();
            let key = short(&damage.key);
            console::print(&format!("{key}{stage}: {}: {}", damage.file.display(), damage.problem))?;
        }
    }
    let mend = "`pipe run` computes again what a recipe needs of them, `pipe rm` removes them";
    console::eprint_line(&summary(&found, mend));
    if let (Some(remote), Some(there)) = (session.remote(), &there) {
        let mend = "`pipe push` from a store that has them mends the remote";
        console::eprint_line(&format!("{}: {}", remote.url(), summary(&there.found, mend)));
        let lacking = there.absent.iter().filter(|key| keys.contains(key)).count();
        if lacking > 0 {
            let absent = count(lacking, "artifact");
            console::eprint_line(&format!("{absent} of the store aren't there; `pipe push` uploads what a recipe has"));
        }
        for key in &there.differing {
            let key = short(key);
            console::eprint_line(&format!("note: the remote has another result for {key} than the store"));
        }
    }
    if let Some(error) = unasked {
        console::eprint_line(&error);
        return Ok(Exit::Failed);
    }
    let is_sound = found.damage.is_empty() && there.is_none_or(|there| there.found.damage.is_empty());
    Ok(if is_sound { Exit::Done } else { Exit::Failed })
}

/// The keys that begin so, in the store or else in the remote.
fn keys_of(prefixes: &[String], store: &Store, remote: Option<&Remote>) -> Result<Vec<String>> {
    let key = |prefix: &String| {
        let elsewhere = || remote.map(|remote| remote.matching(prefix)).unwrap_or_default();
        store.key(prefix).or_else(|error| match &elsewhere()[..] {
            [artifact] => Ok(artifact.key.clone()),
            _ => Err(error),
        })
    };
    prefixes.iter().map(key).collect()
}

/// Looks at the remote's copies of these artifacts and, for `all`, at what else it has, as far as that's known.
fn of_remote(remote: &Remote, keys: &[String], all: bool) -> Result<RemoteVerification> {
    let mut keys: BTreeSet<String> = keys.iter().cloned().collect();
    remote.ask();
    if all {
        keys.extend(remote.known().into_iter().map(|artifact| artifact.key));
        match remote.keys()? {
            Some(listed) => keys.extend(listed),
            None => console::eprint_line(
                "note: the remote doesn't list what it has, so that only what is known here is read",
            ),
        }
    }
    let keys: Vec<String> = keys.into_iter().collect();
    let progress = ProgressReporter::new();
    progress.start("remote");
    let found = remote.verify(&keys, &|done, total| {
        progress.advance("remote", done as u64, total as u64, "files", None);
    });
    progress.stop("remote");
    found
}

fn json(found: &Verification) -> Value {
    let damage = |damage: &Damage| -> Value {
        json!({
            "key": damage.key,
            "stage": damage.stage,
            "file": damage.file.to_string_lossy(),
            "problem": damage.problem,
        })
    };
    let damaged: Vec<_> = found.damage.iter().map(damage).collect();
    json!({ "artifacts": found.artifacts, "files": found.files, "bytes": found.bytes, "damaged": damaged })
}

/// What was read, and what came of it.
fn summary(found: &Verification, mend: &str) -> String {
    let looked =
        format!("{} in {}, {}", count(found.files, "file"), count(found.artifacts, "artifact"), bytes(found.bytes));
    match found.damage.len() {
        0 => format!("{looked}: no damage found"),
        damaged => format!("{looked}: {}; {mend}", count(damaged, "damaged file")),
    }
}
