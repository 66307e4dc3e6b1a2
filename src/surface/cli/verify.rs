//! `pipe verify`.

use std::path::Path;

use anyhow::Result;
use serde_json::{Value, json};

use super::{
    args::Verify,
    console::{self, count},
    exit::{DONE, FAILED},
    ls::bytes,
    progress::ProgressReporter,
};
use crate::engine::store::{Damage, Store, short};

/// `pipe verify [KEY…]`.
pub(super) fn verify(command: &Verify, store: &Path) -> Result<u8> {
    let store = Store::open(store)?;
    let keys = match command.keys.as_slice() {
        [] => store.keys()?,
        prefixes => prefixes.iter().map(|prefix| store.key(prefix)).collect::<Result<_>>()?,
    };
    let progress = ProgressReporter::new();
    progress.start("verify");
    let found =
        store.verify(&keys, &|done, total| progress.advance("verify", done as u64, total as u64, "files", None))?;
    progress.stop("verify");
    if command.json {
        let damage = |damage: &Damage| -> Value {
            json!({
                "key": damage.key,
                "stage": damage.stage,
                "file": damage.file.to_string_lossy(),
                "problem": damage.problem,
            })
        };
        let damaged: Vec<_> = found.damage.iter().map(damage).collect();
        let value =
            json!({ "artifacts": found.artifacts, "files": found.files, "bytes": found.bytes, "damaged": damaged });
        console::print(&serde_json::to_string_pretty(&value)?)?;
    } else {
        for damage in &found.damage {
            let stage = damage.stage.as_ref().map(|stage| format!(" of `{stage}`")).unwrap_or_default();
            let key = short(&damage.key);
            console::print(&format!("{key}{stage}: {}: {}", damage.file.display(), damage.problem))?;
        }
    }
    let looked =
        format!("{} in {}, {}", count(found.files, "file"), count(found.artifacts, "artifact"), bytes(found.bytes));
    if found.damage.is_empty() {
        console::eprint_line(&format!("{looked}: no damage found"));
        return Ok(DONE);
    }
    let damaged = count(found.damage.len(), "damaged file");
    console::eprint_line(&format!(
        "{looked}: {damaged}; `pipe run` computes again what a recipe needs of them, `pipe rm` removes them"
    ));
    Ok(FAILED)
}
