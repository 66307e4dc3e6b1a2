//! The optimizers that recipes can name. Each is a file here, with a line among [`OPTIMIZERS`].
//!
//! An optimizer is an [`UpdateRule`]: what becomes of one parameter in one step. Going through the parameters, missing
//! gradients, clipping, states on disk, replicas and counts of steps aren't its business.

mod adamw;
mod definition;
mod muon;
mod rule;
mod sgd;

use std::sync::Arc;

use anyhow::{Context, Result};
use serde_json::json;

pub use adamw::{AdamW, AdamWSettings};
pub use definition::OptimizerDef;
pub use rule::{Clip, Slot, UpdateContext, UpdateRule, state_bytes};

use crate::{spec, support::Registry};

/// What `train.optimizer` may name.
pub static OPTIMIZERS: Registry<OptimizerDef> = Registry::new(&[&adamw::ADAMW, &sgd::SGD, &muon::MUON]);

/// The optimizer of a `train` section: the one that it names, or AdamW with the settings beside it.
///
/// # Errors
/// An optimizer that isn't known, and settings that it can't have.
pub fn of(train: &spec::Train) -> Result<Arc<dyn UpdateRule>> {
    let def = def_of(train)?;
    match &train.optimizer {
        Some(optimizer) => def.rule(&optimizer.settings),
        None => def.rule(&json!({
            "beta1": train.beta1,
            "beta2": train.beta2,
            "epsilon": train.epsilon,
            "weight_decay": train.weight_decay,
        })),
    }
}

/// The version of the code of a `train` section's optimizer.
///
/// # Errors
/// An optimizer that isn't known.
pub fn version(train: &spec::Train) -> Result<u32> {
    Ok(def_of(train)?.version())
}

fn def_of(train: &spec::Train) -> Result<&'static OptimizerDef> {
    let Some(optimizer) = &train.optimizer else { return Ok(&adamw::ADAMW) };
    OPTIMIZERS.named(&optimizer.name).with_context(|| format!("there is no optimizer `{}`", optimizer.name))
}
