//! `pipe check`.

use std::path::Path;

use anyhow::Result;
use serde_json::json;

use super::{
    args::Check,
    console,
    exit::Exit,
    expectations::{Expectations, NO_BASE},
    junit::{self, Suite},
    load::{self, Loaded, RemoteChoice},
};
use crate::{
    engine::executor::outcomes,
    recipe::{Diagnostic, Diagnostics},
    stages::DataCheck,
};

/// `pipe check RECIPE`: everything that can be found wrong without running it, the rows' labels included; and with
/// `--expect` whether what is stored is as the recipe expects it.
pub(super) fn check(command: &Check, store: &Path, remote: Option<RemoteChoice<'_>>) -> Result<Exit> {
    let loaded = load::load(&command.recipe)?;
    let checked = &loaded.recipe.checked;
    let names: Vec<_> = loaded.graph.nodes().filter(|node| checked.writes(&node.name)).collect();
    let mut data = DataCheck::thorough();
    data.check(checked, names.iter().copied())?;
    let warnings = Diagnostics::all(checked.warnings().into_iter().chain(data.warnings()));
    if let Some(warnings) = &warnings {
        console::eprint_line(&warnings.render(console::colour()));
    }
    let expected = command.expect.then(|| expected(command, &loaded, store, remote)).transpose()?;
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
        if let Some(expected) = &expected {
            result["expectations"] = expected.json();
        }
        console::print(&result.to_string())?;
    } else {
        let stages = console::count(names.len(), "stage");
        console::print(&format!("{}: {stages}, no mistakes", command.recipe.recipe.display()))?;
    }
    let Some(expected) = expected else { return Ok(Exit::Done) };
    expected.print();
    let exit = expected.exit(Exit::Done);
    match expected.list().iter().find(|judged| judged.not_judged().is_some_and(|reason| reason != NO_BASE)) {
        Some(judged) if exit == Exit::Done => {
            Err(load::not_run(&command.recipe, &loaded.recipe, &judged.judgement.stage).into())
        }
        _ => Ok(exit),
    }
}

/// What the recipe expects, of what is stored here or in the remote.
fn expected<'a>(
    command: &Check,
    loaded: &'a Loaded,
    store: &Path,
    remote: Option<RemoteChoice<'_>>,
) -> Result<Expectations<'a>> {
    let session = load::session(store, remote)?;
    let plan = session.everywhere().plan(&loaded.graph)?;
    let stages =
        plan.stages().map(|(name, planned)| (name, planned.status.artifact().ok_or("it has no stored result")));
    let remote = session.remote().map(|remote| &**remote);
    let expected = Expectations::judge(&loaded.recipe.checked, stages, &|_| Err(NO_BASE), remote)?;
    if let Some(path) = &command.junit {
        let recipe = command.recipe.recipe.display().to_string();
        junit::write(path, &[Suite { recipe, outcomes: &outcomes(&plan), expectations: &expected }])?;
    }
    Ok(expected)
}
