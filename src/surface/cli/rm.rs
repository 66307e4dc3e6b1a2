//! `pipe rm`.

use std::path::Path;

use anyhow::Result;
use serde_json::json;

use super::{
    args::Rm,
    console,
    exit::{self, Exit},
};
use crate::engine::store::{Store, short};

/// `pipe rm KEY…`. Nothing is removed if one of them can't be found.
pub(super) fn rm(command: &Rm, store: &Path) -> Result<Exit> {
    let store = Store::open(store)?;
    let keys = command.keys.iter().map(|prefix| store.key(prefix)).collect::<Result<Vec<_>>>()?;
    for key in &keys {
        store.remove(key)?;
        exit::work_begins();
        console::eprint_line(&format!("removed {}", short(key)));
    }
    if command.json {
        console::print(&serde_json::to_string_pretty(&json!({ "removed": keys }))?)?;
    }
    Ok(Exit::Done)
}
