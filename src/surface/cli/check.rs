//! `pipe check`.

use anyhow::Result;
use serde_json::json;

use super::{DONE, args::Check, load, progress};
use crate::stages::DataCheck;

/// `pipe check RECIPE`: everything that can be found wrong without running it, the rows' labels included.
pub(super) fn check(command: &Check) -> Result<u8> {
    let loaded = load::load(&command.recipe)?;
    let names: Vec<_> = loaded.graph.nodes().collect();
    DataCheck::default().check(&loaded.recipe.checked, names.iter().copied())?;
    if command.json {
        let stages: Vec<_> = names.iter().map(|node| json!({"name": node.name, "kind": node.kind})).collect();
        progress::put(&json!({ "ok": true, "stages": stages }).to_string())?;
    } else {
        let stages = progress::count(names.len(), "stage");
        progress::put(&format!("{}: {stages}, no mistakes", command.recipe.recipe.display()))?;
    }
    Ok(DONE)
}
