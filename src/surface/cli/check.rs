//! `pipe check`.

use anyhow::Result;
use serde_json::json;

use super::{args::Check, console, exit::DONE, load};
use crate::{
    recipe::{Diagnostic, Diagnostics},
    stages::DataCheck,
};

/// `pipe check RECIPE`: everything that can be found wrong without running it, the rows' labels included.
pub(super) fn check(command: &Check) -> Result<u8> {
    let loaded = load::load(&command.recipe)?;
    let checked = &loaded.recipe.checked;
    let names: Vec<_> = loaded.graph.nodes().filter(|node| checked.writes(&node.name)).collect();
    let mut data = DataCheck::default();
    data.check(checked, names.iter().copied())?;
    let warnings = Diagnostics::all(checked.warnings().into_iter().chain(data.warnings()));
    if let Some(warnings) = &warnings {
        console::eprint_line(&warnings.render(console::colour()));
    }
    if command.json {
        let stages: Vec<_> = names.iter().map(|node| json!({"name": node.name, "kind": node.kind})).collect();
        let mut result = json!({ "ok": true, "stages": stages });
        if let Some(warnings) = &warnings {
            let warning = |one: &Diagnostic| {
                let (line, column) = warnings.place(one).unzip();
                json!({ "message": one.message, "hint": one.hint, "line": line, "column": column })
            };
            result["warnings"] = warnings.list().iter().map(warning).collect();
        }
        console::print(&result.to_string())?;
    } else {
        let stages = console::count(names.len(), "stage");
        console::print(&format!("{}: {stages}, no mistakes", command.recipe.recipe.display()))?;
    }
    Ok(DONE)
}
