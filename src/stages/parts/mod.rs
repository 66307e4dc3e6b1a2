//! What kinds of stages put their work together from.

pub(super) mod baseline;
pub(super) mod batches;
pub(super) mod classifier;
pub(super) mod conversation;
pub(super) mod encoding;
pub(super) mod ensemble;
mod first_step;
pub(super) mod generate;
pub(super) mod holding;
pub(super) mod instruction;
pub(super) mod language;
pub(super) mod measured;
pub(super) mod origin;
pub(super) mod outputs;
pub(super) mod records;
mod room;
pub(super) mod rows;
pub(super) mod step_metrics;
pub(super) mod task;
pub(super) mod teach;
pub(super) mod teacher;
pub(super) mod train_loop;
pub(super) mod transformers;
pub(super) mod wide;
pub(super) mod writing;

use anyhow::Result;

use super::facts::{BaseModel, Field};
use crate::{
    learning::train::optimizers,
    network::{batch::Layout, device::OpenDevice, kernels::COMPACT_VERSION, model::families},
    spec::{Adapter, Model, Origin, Train, WeightForm},
};
use origin::OriginFields;

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
            directory: from.place(),
            tokenizer: FROM.tokenizer,
            needs_tokenizer: needs_tokenizer && from.tokenizer.is_none(),
            bytes: origin.falls_back_on_bytes(),
        }),
        _ => None,
    }
}

/// By how much the code of a training is newer than the first version of all that takes part in it: the family of a new
/// model, the adapter, the optimizer, and (`other`) one thing more that has changed once.
pub(super) fn revisions(model: Option<&Model>, adapter: Option<&Adapter>, train: &Train, other: bool) -> Result<u32> {
    let family = model.map(families::of_spec).transpose()?;
    let shares = family.is_some_and(|family| family.shares_second_version);
    let family = family.map_or(0, |family| family.version.saturating_sub(1));
    // The second version of P-tuning adds up the gradients of what layers share in another order, as that of the
    // transformer does. The third begins with values as large as PEFT's, and counts positions on from the prefix where
    // PEFT does.
    let weights = adapter.map(Adapter::weights);
    let adapter = if matches!(adapter, Some(Adapter::PTuning(_))) { 2 } else { 0 };
    let compact = compact_revisions(weights);
    // The first revisions of all of these were made together, and count as one.
    let first = u32::from(adapter > 0) + u32::from(other) + u32::from(shares);
    let optimizer = optimizers::version(train)?.saturating_sub(1);
    Ok(family + adapter + compact + optimizer + u32::from(other) - first.saturating_sub(1))
}

/// By how much products with weights in this form are newer than their first version.
pub(super) fn compact_revisions(weights: Option<WeightForm>) -> u32 {
    if weights.is_some_and(WeightForm::is_compact) { COMPACT_VERSION - 1 } else { 0 }
}
