//! `pipe doctor`.

use std::{path::Path, sync::Arc};

use anyhow::Result;
use serde_json::json;

use super::{
    args::Doctor,
    console,
    exit::{self, Exit},
    interrupt, on,
};
use crate::session::{
    Notify,
    cluster::{ENGINES, doctor, profile::FILE},
};

/// `pipe doctor --on PROFILE`; it fails if something isn't well.
pub(super) fn doctor(command: &Doctor, store: &Path) -> Result<Exit> {
    let notify: Notify = Arc::new(console::eprint_line);
    if let Some(folder) = &command.job {
        doctor::look(folder, command.apart.as_deref(), &notify)?;
        return Ok(Exit::Done);
    }
    let on = on::named(command.on.as_deref().unwrap_or_default(), Path::new(FILE))?;
    let store = doctor::prepare(on.profile.shared_store().unwrap_or(store))?;
    interrupt::install_for_stages()?;
    exit::work_begins();
    let stop = interrupt::flag();
    let findings = interrupt::during(|| doctor::examine(&on.profile, &store, &ENGINES, &notify, &stop))?;
    if command.json {
        let told = findings.iter().map(|finding| json!({ "well": finding.is_well, "text": finding.text }));
        console::print(&format!("{:#}", json!({ "findings": told.collect::<Vec<_>>() })))?;
    }
    for finding in findings.iter().filter(|_| !command.json) {
        console::print(&format!("{}  {}", if finding.is_well { "ok   " } else { "wrong" }, finding.text))?;
    }
    Ok(if findings.iter().all(|finding| finding.is_well) { Exit::Done } else { Exit::Failed })
}
