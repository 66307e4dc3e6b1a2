//! What kinds of stages put their work together from.

pub(super) mod batches;
pub(super) mod classifier;
pub(super) mod conversation;
pub(super) mod encoding;
pub(super) mod figures;
pub(super) mod generate;
pub(super) mod instruction;
pub(super) mod language;
pub(super) mod measured;
pub(super) mod origin;
pub(super) mod records;
pub(super) mod rows;
pub(super) mod task;
pub(super) mod teach;
pub(super) mod train_loop;

use super::facts::{BaseModel, Field};
use crate::{
    network::{batch::Layout, device::OpenDevice},
    spec::{Adapter, Model, Origin},
};
use origin::OriginFields;

/// The tokenizer's file in the artifacts of tokenize, pretrain and finetune stages.
pub(super) const TOKENIZER: &str = "tokenizer.json";

/// The field with the model to start from.
pub(super) const FROM: OriginFields =
    OriginFields { stage: Field("from"), checkpoint: Field("from.checkpoint"), tokenizer: Field("from.tokenizer") };

/// The field with the stage whose tokenizer, and maybe whose corpora, are used.
pub(super) const TOKENS: Field = Field("tokens");

/// The CPU's kernels take examples without padding; other backends want rectangles.
pub(super) fn layout(device: &OpenDevice, width: usize, packing: bool) -> Layout {
    if device.is_cpu() { Layout::Ragged } else { Layout::Rows { width, packing } }
}

/// The model that a training stage begins with, by its fields `from` and `model`; one of the two in a recipe without
/// mistakes. `needs_tokenizer` tells whether a checkpoint's own tokenizer is used.
pub(super) fn base_model(from: Option<&Origin>, model: Option<&Model>, needs_tokenizer: bool) -> Option<BaseModel> {
    match (from, model) {
        (None, Some(model)) => Some(BaseModel::New { model: model.clone(), tokens: TOKENS }),
        (Some(Origin::Stage(name)), None) => Some(BaseModel::Stage { field: FROM.stage, name: name.clone() }),
        (Some(origin @ Origin::Checkpoint(from)), None) => Some(BaseModel::Checkpoint {
            field: FROM.checkpoint,
            directory: from.checkpoint.clone(),
            needs_tokenizer: needs_tokenizer && from.tokenizer.is_none(),
            bytes: origin.falls_back_on_bytes(),
        }),
        _ => None,
    }
}

/// Whether several layers read what one tensor gives: the encoder's states, or a P-tuned prefix. Its gradients are added
/// up in an order that has changed once, which is in the version of training stages.
pub(super) fn shares_gradients(model: Option<&Model>, adapter: Option<&Adapter>) -> bool {
    matches!(model, Some(Model::Transformer(_))) || matches!(adapter, Some(Adapter::PTuning(_)))
}
