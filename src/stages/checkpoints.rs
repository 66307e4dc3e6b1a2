//! Checkpoints that a run would read, looked at before anything runs. Only headers are read, so it costs next to
//! nothing, and a file that is missing or broken isn't found out after hours of other stages.

use crate::{
    checkpoint,
    model::Network,
    plan::Node,
    recipe::{
        Checked, Diagnostics,
        spec::{Origin, Stage},
        walk::{FileField, FileKind, file_fields},
    },
};

/// What is wrong with the checkpoints that a stage reads.
pub(super) fn check(checked: &Checked, node: &Node) -> Vec<Diagnostics> {
    let mut found = Vec::new();
    for FileField { pointer, .. } in file_fields(&node.stage).iter().filter(|field| field.kind == FileKind::Checkpoint)
    {
        let Some(directory) = node.files.get(pointer).and_then(|files| files.first()) else { continue };
        let place = format!("stages.{}.{}.{pointer}", node.name, node.stage.kind());
        if let Err(error) = Network::inspect(directory) {
            let text = format!("{error:#}");
            let (message, hint) = match text.split_once("\nhint: ") {
                Some((message, hint)) => (message, Some(hint.to_owned())),
                None => (text.as_str(), None),
            };
            found.push(checked.diagnose(&place, message, hint));
        }
        if needs_tokenizer(&node.stage) && checkpoint::tokenizer(directory).is_empty() {
            let message = format!("{} has no tokenizer", directory.display());
            let hint =
                "name one beside the checkpoint, under `tokenizer`: a file, or a directory that has one".to_owned();
            found.push(checked.diagnose(&place, message, hint));
        }
    }
    found
}

/// Whether the tokenizer has to come with the checkpoint: a pretrain stage has another one in `tokens`, and nothing is
/// encoded to store a model.
fn needs_tokenizer(stage: &Stage) -> bool {
    match stage {
        Stage::Finetune(spec) => matches!(&spec.from, Some(Origin::Checkpoint(from)) if from.tokenizer.is_none()),
        _ => false,
    }
}
