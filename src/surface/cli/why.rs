//! `pipe why`.

use anyhow::Result;
use serde_json::{Value, json};

use super::{
    args::Why,
    console,
    exit::Exit,
    load::{self, Loaded, RemoteChoice},
};
use crate::{
    engine::{
        plan::{Difference, Reason, Status, differences_of_runs},
        store::{Artifact, short},
    },
    session::Wanted,
};

/// `pipe why RECIPE STAGE`, or `pipe why KEY KEY`.
pub(super) fn why(command: &Why, store: &std::path::Path, remote: Option<RemoteChoice<'_>>) -> Result<Exit> {
    let first = command.recipe.recipe.to_string_lossy();
    if is_key(&first) && is_key(&command.stage) && !command.recipe.recipe.exists() {
        return compare(&first, command, store, remote);
    }
    let Loaded { graph, .. } = load::load(&command.recipe)?;
    let graph = Wanted { stages: vec![command.stage.clone()], ..Wanted::default() }.of(graph)?;
    // Where a stage before this one has to run, its nearest stored run stands in for it, which is printed.
    let plan = load::session(store, remote)?.everywhere().assuming().plan(&graph)?;
    let mut assumed = Vec::new();
    let mut last = None;
    let mut is_remote = false;
    for (name, planned) in plan.stages() {
        let (run, changes, damage) = match &planned.status {
            Status::Hit(artifact) | Status::Remote(artifact) => (Some(&**artifact), Vec::new(), None),
            Status::Miss { reason: Reason::Differs { nearest, differences }, .. } => {
                (Some(&**nearest), differences.clone(), None)
            }
            Status::Miss { reason: Reason::Damaged(damage), .. } => (None, Vec::new(), Some(damage.as_str())),
            Status::Miss { .. } => (None, Vec::new(), None),
            Status::Waits => continue,
        };
        let hit = !planned.is_missing();
        if name == command.stage {
            last = Some((hit, run, changes, damage));
            is_remote = matches!(planned.status, Status::Remote(_));
        } else if !hit {
            assumed.push((name, changes, damage));
        }
    }

    let (hit, run, changes, damage) = last.unwrap_or_default();
    if command.json {
        let upstream: serde_json::Map<_, _> =
            assumed.iter().map(|(name, changes, _)| ((*name).to_owned(), list(changes))).collect();
        let value = json!({
            "stage": command.stage,
            "status": if hit && assumed.is_empty() { "hit" } else { "miss" },
            "nearest": run.map(|run| &run.key),
            "differences": list(&changes),
            "upstream": upstream,
        });
        console::print(&serde_json::to_string_pretty(&value)?)?;
        return Ok(Exit::Done);
    }
    let mut lines = Vec::new();
    let nothing = |damage: &Option<&str>| match damage {
        Some(damage) => format!("the stored artifact is damaged: {damage}"),
        None => "the store has no run of this kind".to_owned(),
    };
    for (name, changes, damage) in &assumed {
        lines.push(format!("{name}, which it depends on, has to run:"));
        lines.extend(changes.iter().map(|change| format!("  {change}")));
        if changes.is_empty() {
            lines.push(format!("  {}", nothing(damage)));
        }
    }
    match run {
        None => lines.push(format!("{}: {}", command.stage, nothing(&damage))),
        Some(run) if hit && assumed.is_empty() => {
            let place = if is_remote { "in the remote" } else { "stored" };
            lines.push(format!("{}: unchanged, {place} as {}", command.stage, short(&run.key)));
        }
        Some(run) => {
            let name = &run.provenance.stage;
            lines.push(format!("{}: compared with the stored run {} of `{name}`:", command.stage, short(&run.key)));
            lines.extend(changes.iter().map(|change| format!("  {change}")));
            if changes.is_empty() {
                lines.push("  no difference of its own".into());
            }
        }
    }
    console::print(&lines.join("\n"))?;
    Ok(Exit::Done)
}

/// Two stored runs, field by field.
fn compare(before: &str, command: &Why, store: &std::path::Path, remote: Option<RemoteChoice<'_>>) -> Result<Exit> {
    let session = load::session(store, remote)?;
    let [before, after] = [before, &command.stage].map(|key| load::artifact(&session, key));
    let (before, after) = (before?, after?);
    let changes = differences_of_runs(&before, &after);
    if command.json {
        let value = json!({ "was": before.key, "is": after.key, "differences": list(&changes) });
        console::print(&serde_json::to_string_pretty(&value)?)?;
        return Ok(Exit::Done);
    }
    let name = |run: &Artifact| format!("{} of `{}`", short(&run.key), run.provenance.stage);
    let mut lines = vec![format!("from {} to {}:", name(&before), name(&after))];
    lines.extend(changes.iter().map(|change| format!("  {change}")));
    if changes.is_empty() {
        lines.push("  nothing differs".into());
    }
    console::print(&lines.join("\n"))?;
    Ok(Exit::Done)
}

/// Whether it can be the beginning of a key.
fn is_key(text: &str) -> bool {
    (4..=64).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_hexdigit())
}

fn list(changes: &[Difference]) -> Value {
    changes.iter().map(|change| json!({ "field": change.field, "was": change.was, "is": change.is })).collect()
}
