//! Checkpoints that a run would read, looked at before anything runs. Only headers are read, so it costs next to
//! nothing, and a file that is missing or broken isn't found out after hours of other stages.

use anyhow::Result;

use crate::{
    engine::plan::Node,
    network::{checkpoint, model::Network},
    recipe::{
        Checked, Diagnostics,
        walk::{FileField, FileKind, file_fields},
    },
    spec::{Origin, Stage},
};

/// What is wrong with the checkpoints and the tokenizers that a stage reads.
///
/// # Errors
/// If the node's settings are none of ours.
pub(super) fn check(checked: &Checked, node: &Node) -> Result<Vec<Diagnostics>> {
    let stage = super::of(node)?;
    let mut found = Vec::new();
    for FileField { pointer, kind, .. } in file_fields(&stage) {
        let Some(path) = node.files.get(&pointer).and_then(|files| files.first()) else { continue };
        let place = format!("stages.{}.{}.{pointer}", node.name, node.kind);
        let wants_tokenizer = match kind {
            FileKind::Files => continue,
            FileKind::Tokenizer => true,
            FileKind::Checkpoint => needs_tokenizer(&stage),
        };
        if kind == FileKind::Checkpoint
            && let Err(error) = Network::inspect(path)
        {
            let text = format!("{error:#}");
            let (message, hint) = match text.split_once("\nhint: ") {
                Some((message, hint)) => (message, Some(hint.to_owned())),
                None => (text.as_str(), None),
            };
            found.push(checked.diagnose(&place, message, hint));
        }
        if wants_tokenizer && !stage.falls_back_on_bytes() && checkpoint::tokenizer(path).is_empty() {
            let message = format!("{} has no tokenizer", path.display());
            let hint = "name a tokenizer's file, or a directory that has one, under `tokenizer`".to_owned();
            found.push(checked.diagnose(&place, message, hint));
        }
    }
    Ok(found)
}

/// Whether the tokenizer has to come with the checkpoint: a pretrain stage has another one in `tokens`, and nothing is
/// encoded to store a model.
fn needs_tokenizer(stage: &Stage) -> bool {
    match stage {
        Stage::Finetune(spec) => matches!(&spec.from, Some(Origin::Checkpoint(from)) if from.tokenizer.is_none()),
        _ => false,
    }
}
