//! `pipe pin` and `pipe unpin`.

use std::path::{Path, PathBuf};

use anyhow::{Result, bail};
use comfy_table::{Table, presets::NOTHING};
use serde_json::{Value, json};

use super::{
    args::{Pin, Recipe, Unpin},
    console,
    exit::{self, Exit},
    load::{self, RemoteChoice},
};
use crate::engine::store::{Store, short};

/// `pipe pin`, `pipe pin KEY`, `pipe pin RECIPE STAGE`.
pub(super) fn pin(command: &Pin, at: &Path, remote: Option<RemoteChoice<'_>>) -> Result<Exit> {
    let store = Store::open(at)?;
    let (key, stage) = match (&command.target, &command.stage) {
        (None, _) => return list(&store, command.json),
        (Some(prefix), None) => {
            if Path::new(prefix).is_file() {
                bail!("name the stage of {prefix} to pin");
            }
            let key = store.key(prefix)?;
            let stage = store.record(&key)?.map(|artifact| artifact.provenance.stage).unwrap_or_default();
            (key, stage)
        }
        (Some(recipe), Some(stage)) => {
            let recipe = Recipe { recipe: PathBuf::from(recipe), changes: command.changes.clone() };
            let (_, artifact) = load::stored(&recipe, stage, load::Needs::Anything, at, remote)?;
            (artifact.key, stage.clone())
        }
    };
    let name = command.name.as_ref().unwrap_or(&stage);
    store.pin(name, &key)?;
    exit::work_begins();
    if command.json {
        console::print(&serde_json::to_string_pretty(&json!({ "name": name, "key": key, "stage": stage }))?)?;
    }
    console::eprint_line(&format!("{} of `{stage}` is pinned as {name}", short(&key)));
    Ok(Exit::Done)
}

fn list(store: &Store, json: bool) -> Result<Exit> {
    let pins = store.pins()?;
    let stage = |key: &str| store.record(key).ok().flatten().map(|artifact| artifact.provenance.stage);
    if json {
        let pins: Vec<Value> =
            pins.iter().map(|pin| json!({ "name": pin.name, "key": pin.key, "stage": stage(&pin.key) })).collect();
        console::print(&serde_json::to_string_pretty(&pins)?)?;
        return Ok(Exit::Done);
    }
    let mut table = Table::new();
    table.load_style(NOTHING).set_header(["pin", "key", "stage"]);
    for pin in &pins {
        let stage = stage(&pin.key).unwrap_or_else(|| "not in the store".into());
        table.add_row([pin.name.as_str(), short(&pin.key), &stage]);
    }
    console::print(&table.to_string())?;
    Ok(Exit::Done)
}

/// `pipe unpin NAME`.
pub(super) fn unpin(command: &Unpin, store: &Path) -> Result<Exit> {
    Store::open(store)?.unpin(&command.name)?;
    exit::work_begins();
    if command.json {
        console::print(&serde_json::to_string_pretty(&json!({ "unpinned": command.name }))?)?;
    }
    console::eprint_line(&format!("{} is no longer pinned", command.name));
    Ok(Exit::Done)
}
