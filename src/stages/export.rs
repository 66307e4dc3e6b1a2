//! Make a model ready for others.

use anyhow::{Context, Result};

use super::{
    metrics::{PARAMETERS, WEIGHT_FILES},
    origin::Origin,
};
use crate::{
    engine::{executor::Job, store::Metrics},
    network::{checkpoint, model},
    spec::Export,
};

/// Writes weights, `config.json` and tokenizer; `pipe export` copies them out of the store.
pub(super) fn export(job: &Job<'_>, spec: &Export) -> Result<Metrics> {
    let origin = Origin::of(job, "model").context("`model` was not resolved")?;
    let most = spec.max_shard_bytes().with_context(|| format!("{} is no size of a file", spec.max_shard_size))?;
    let parameters = model::Network::inspect(&origin.model)?.parameters;
    model::copy(&origin.model, job.out, spec.dtype, most)?;
    if origin.tokenizer != origin.model {
        origin.copy_tokenizer(job.out)?;
    }
    let mut metrics = Metrics::new();
    PARAMETERS.put(&mut metrics, parameters);
    WEIGHT_FILES.put(&mut metrics, checkpoint::weights(job.out)?.len());
    Ok(metrics)
}
