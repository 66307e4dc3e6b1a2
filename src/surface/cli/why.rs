//! `pipe why`.

use anyhow::{Result, bail};
use serde_json::{Value, json};

use super::{
    DONE,
    args::Why,
    load::{self, Loaded},
    progress,
};
use crate::engine::{
    plan::{Difference, differences, differences_of_runs, nearest},
    store::{Artifact, DigestCache, Store},
};

/// `pipe why RECIPE STAGE`, or `pipe why KEY KEY`.
pub(super) fn why(command: &Why, store: &std::path::Path) -> Result<u8> {
    let first = command.recipe.recipe.to_string_lossy();
    if is_key(&first) && is_key(&command.stage) && !command.recipe.recipe.exists() {
        return compare(&first, command, store);
    }
    let Loaded { mut graph, .. } = load::load(&command.recipe)?;
    if graph.get(&command.stage).is_none() {
        bail!(graph.no_such_stage(&command.stage));
    }
    graph.select(std::slice::from_ref(&command.stage))?;
    let store = Store::open(store)?;
    let mut digests = DigestCache::open(store.root());
    let runs = store.list()?;

    // Where a stage before this one has to run, its nearest stored run stands in for it, and the reader is told.
    let mut known = std::collections::BTreeMap::new();
    let mut assumed = Vec::new();
    let mut last = None;
    for node in graph.nodes() {
        let Some(manifest) = node.manifest(&mut digests, &|name| known.get(name).cloned())? else { break };
        let found = store.find(&manifest.key()).ok().flatten();
        let hit = found.is_some();
        let run = match &found {
            Some(artifact) => Some(artifact),
            None => nearest(node, &manifest, &runs),
        };
        if let Some(run) = run {
            known.insert(node.name.clone(), run.digest.clone());
        }
        let changes = || run.map(|run| differences(&node.described, &manifest, run)).unwrap_or_default();
        if node.name == command.stage {
            last = Some((hit, run.cloned(), changes()));
        } else if !hit {
            assumed.push((node.name.clone(), changes()));
        }
    }

    let (hit, run, changes) = last.unwrap_or_default();
    if command.json {
        let upstream: serde_json::Map<_, _> =
            assumed.iter().map(|(name, changes)| (name.clone(), list(changes))).collect();
        let value = json!({
            "stage": command.stage,
            "status": if hit && assumed.is_empty() { "hit" } else { "miss" },
            "nearest": run.map(|run| run.key),
            "differences": list(&changes),
            "upstream": upstream,
        });
        progress::put(&serde_json::to_string_pretty(&value)?)?;
        return Ok(DONE);
    }
    let mut lines = Vec::new();
    for (name, changes) in &assumed {
        lines.push(format!("{name}, which it needs, has to run:"));
        lines.extend(changes.iter().map(|change| format!("  {change}")));
        if changes.is_empty() {
            lines.push("  no run of its kind is in the store".into());
        }
    }
    match run {
        None => lines.push(format!("{}: no run of its kind is in the store", command.stage)),
        Some(run) if hit && assumed.is_empty() => {
            lines.push(format!("{}: unchanged, stored as {}", command.stage, &run.key[..12]));
        }
        Some(run) => {
            let name = &run.provenance.stage;
            lines.push(format!("{}: compared with the stored run {} of `{name}`:", command.stage, &run.key[..12]));
            lines.extend(changes.iter().map(|change| format!("  {change}")));
            if changes.is_empty() {
                lines.push("  nothing of its own differs".into());
            }
        }
    }
    progress::put(&lines.join("\n"))?;
    Ok(DONE)
}

/// Two stored runs, field by field.
fn compare(before: &str, command: &Why, store: &std::path::Path) -> Result<u8> {
    let store = Store::open(store)?;
    let [before, after] = [before, &command.stage].map(|key| load::artifact(&store, key));
    let (before, after) = (before?, after?);
    let changes = differences_of_runs(&before, &after);
    if command.json {
        let value = json!({ "was": before.key, "is": after.key, "differences": list(&changes) });
        progress::put(&serde_json::to_string_pretty(&value)?)?;
        return Ok(DONE);
    }
    let name = |run: &Artifact| format!("{} of `{}`", &run.key[..12], run.provenance.stage);
    let mut lines = vec![format!("from {} to {}:", name(&before), name(&after))];
    lines.extend(changes.iter().map(|change| format!("  {change}")));
    if changes.is_empty() {
        lines.push("  nothing differs".into());
    }
    progress::put(&lines.join("\n"))?;
    Ok(DONE)
}

/// Whether it can be the beginning of a key.
fn is_key(text: &str) -> bool {
    (4..=64).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_hexdigit())
}

fn list(changes: &[Difference]) -> Value {
    changes.iter().map(|change| json!({ "field": change.field, "was": change.was, "is": change.is })).collect()
}
