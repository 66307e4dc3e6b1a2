//! `pipe show`.

use anyhow::Result;
use comfy_table::{CellAlignment, Table, presets::NOTHING};

use super::{
    args::Show,
    console::{self, bytes, duration},
    exit::Exit,
    load::{self, RemoteChoice},
    report,
};
use crate::engine::store::Artifact;

/// `pipe show KEY`.
pub(super) fn show(command: &Show, store: &std::path::Path, remote: Option<RemoteChoice<'_>>) -> Result<Exit> {
    let artifact = load::artifact(&load::session(store, remote)?, &command.key)?;
    if command.json {
        let mut value = serde_json::to_value(&artifact)?;
        // What is in the remote alone has no path yet.
        value["path"] = artifact.path.exists().then(|| artifact.path.to_string_lossy()).into();
        console::print(&serde_json::to_string_pretty(&value)?)?;
    } else {
        console::print(&text(&artifact)?)?;
    }
    Ok(Exit::Done)
}

/// Where an artifact lies.
fn place(artifact: &Artifact) -> String {
    match artifact.path.exists() {
        true => artifact.path.display().to_string(),
        false => "in the remote".to_owned(),
    }
}

fn text(artifact: &Artifact) -> Result<String> {
    let provenance = &artifact.provenance;
    let mut lines = vec![
        format!("{} `{}`", artifact.manifest.kind, provenance.stage),
        format!("key     {}", artifact.key),
        format!("digest  {}", artifact.digest),
        format!("path    {}", place(artifact)),
        format!(
            "made    by pipe {} on {} ({}), in {}",
            provenance.pipe,
            provenance.device,
            provenance.host,
            duration(provenance.seconds)
        ),
    ];
    if !provenance.arithmetic.is_empty() {
        lines.push(format!("cpu     {}", provenance.arithmetic));
    }
    lines.extend(provenance.overrides.iter().map(|option| format!("with    {option}")));
    lines.push("\ninputs".into());
    lines.extend(artifact.manifest.inputs.iter().map(|(field, digest)| format!("  {field}  {digest}")));
    lines.push("\nspec".into());
    lines.extend(serde_json::to_string_pretty(&provenance.spec)?.lines().map(|line| format!("  {line}")));
    lines.push("\nrecipe".into());
    lines.extend(provenance.recipe.lines().map(|line| format!("  {line}").trim_end().to_owned()));
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
