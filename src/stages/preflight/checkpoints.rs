//! Checkpoints that a run would read, looked at before anything runs. Only headers are read, so it costs next to
//! nothing, and a file that is missing or broken isn't found out after hours of other stages.

use anyhow::Result;

use super::place::pointer;
use crate::{
    engine::plan::Node,
    network::{checkpoint, model::Network},
    recipe::{
        Checked, Diagnostics,
        walk::{FileField, FileKind, file_fields},
    },
    spec::Stage,
    stages::{BaseModel, facts_of},
    support::Hinted,
};

/// What is wrong with the checkpoints and the tokenizers that a stage reads.
pub(super) fn check(checked: &Checked, node: &Node) -> Result<Vec<Diagnostics>> {
    let facts = facts_of(node)?;
    // The tokenizer has to come with a checkpoint unless another one is used, or nothing is encoded.
    let (needed_with, spells) = match facts.base_model {
        Some(BaseModel::Checkpoint { field, needs_tokenizer, bytes, .. }) => (needs_tokenizer.then_some(field), bytes),
        _ => (None, false),
    };
    let mut found = Vec::new();
    let stage = Stage { kind: node.kind.clone(), settings: node.settings.clone() };
    for FileField { pointer: field, kind, .. } in file_fields(checked.catalog(), &stage) {
        let Some(path) = node.files.get(&field).and_then(|files| files.first()) else { continue };
        let place = pointer(node, &field);
        let wants_tokenizer = match kind {
            FileKind::Files => continue,
            FileKind::Tokenizer => true,
            FileKind::Checkpoint => needed_with.is_some_and(|needed| needed.is(&field)),
        };
        if kind == FileKind::Checkpoint
            && let Err(error) = Network::inspect(path)
        {
            let Hinted { message, hint } = Hinted::of(&error);
            found.push(checked.diagnose(&place, message, hint));
        }
        if wants_tokenizer && !spells && checkpoint::tokenizer(path).is_empty() {
            let message = format!("{} has no tokenizer", path.display());
            let hint = "name a tokenizer's file, or a directory that has one, under `tokenizer`".to_owned();
            found.push(checked.diagnose(&place, message, hint));
        }
    }
    Ok(found)
}
