//! `pipe show`.

use anyhow::{Result, bail};
use comfy_table::{CellAlignment, Table, presets::NOTHING};

use super::{
    DONE,
    args::Show,
    load,
    ls::bytes,
    progress::{self, duration},
    report,
};
use crate::store::{Artifact, Store};

/// `pipe show KEY`.
pub(super) fn show(command: &Show, store: &std::path::Path, remote: Option<&str>) -> Result<u8> {
    let store = Store::open(store)?;
    let mut found = store.list()?;
    found.retain(|artifact| artifact.key.starts_with(&command.key));
    if found.is_empty()
        && let Some(remote) = load::remote(remote, &store)?
    {
        found = remote.matching(&command.key);
    }
    let artifact = match (found.pop(), found.len()) {
        (Some(artifact), 0) => artifact,
        (None, _) => bail!("no artifact's key begins with `{}`; `pipe ls` lists them", command.key),
        (_, more) => bail!("{} artifacts' keys begin with `{}`; give more of the key", more + 1, command.key),
    };
    if command.json {
        let mut value = serde_json::to_value(&artifact)?;
        value["path"] = artifact.path.to_string_lossy().into();
        progress::put(&serde_json::to_string_pretty(&value)?)?;
    } else {
        progress::put(&text(&artifact)?)?;
    }
    Ok(DONE)
}

fn text(artifact: &Artifact) -> Result<String> {
    let provenance = &artifact.provenance;
    let mut lines = vec![
        format!("{} `{}`", artifact.manifest.kind, provenance.stage),
        format!("key     {}", artifact.key),
        format!("digest  {}", artifact.digest),
        format!("path    {}", artifact.path.display()),
        format!(
            "made    by pipe {} on {} ({}), in {}",
            provenance.pipe,
            provenance.device,
            provenance.host,
            duration(provenance.seconds)
        ),
    ];
    lines.extend(provenance.overrides.iter().map(|option| format!("with    {option}")));
    lines.push("\ninputs".into());
    lines.extend(artifact.manifest.inputs.iter().map(|(field, digest)| format!("  {field}  {digest}")));
    lines.push("\nspec".into());
    lines.extend(serde_json::to_string_pretty(&provenance.spec)?.lines().map(|line| format!("  {line}")));
    lines.push("\nmetrics".into());
    lines.extend(report::metrics(&artifact.metrics).lines().map(|line| format!("  {line}")));
    lines.push("\nfiles".into());
    let mut files = Table::new();
    files.load_style(NOTHING);
    for file in &artifact.files {
        files.add_row([file.path.clone(), bytes(file.bytes), file.digest[..12].to_owned()]);
    }
    if let Some(column) = files.column_mut(1) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    lines.push(files.to_string());
    Ok(lines.join("\n"))
}
