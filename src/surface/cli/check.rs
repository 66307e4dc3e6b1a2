//! `pipe check`.

use anyhow::Result;
use serde_json::json;

use super::{args::Check, console, exit::DONE, load};
use crate::stages::DataCheck;

/// `pipe check RECIPE`: everything that can be found wrong without running it, the rows' labels included.
pub(super) fn check(command: &Check) -> Result<u8> {
    let loaded = load::load(&command.recipe)?;
    let names: Vec<_> = loaded.graph.nodes().collect();
    DataCheck::default().check(&loaded.recipe.checked, names.iter().copied())?;
    if command.json {
        let stages: Vec<_> = names.iter().map(|node| json!({"name": node.name, "kind": node.kind})).collect();
        console::print(&json!({ "ok": true, "stages": stages }).to_string())?;
    } else {
        let stages = console::count(names.len(), "stage");
        console::print(&format!("{}: {stages}, no mistakes", command.recipe.recipe.display()))?;
    }
    Ok(DONE)
}
