//! Take a checkpoint into the store.

use anyhow::{Context, Result};
use fs_err as fs;

use super::{
    metrics::{FAMILY, PARAMETERS},
    origin::copy_tokenizer,
};
use crate::{
    engine::{executor::Job, store::Metrics},
    network::{checkpoint, model::Network},
};

/// Checks a checkpoint, and copies the files that make the model, as they are.
pub(super) fn import(job: &Job<'_>) -> Result<Metrics> {
    let place = |field: &str| job.files.get(field).and_then(|files| files.first());
    let from = place("path").context("`path` was not resolved")?;
    let outlook = Network::inspect(from)?;
    for file in checkpoint::files(from) {
        fs::copy(&file, job.out.join(file.file_name().unwrap_or_default()))?;
    }
    if let Some(tokenizer) = place("tokenizer") {
        for file in checkpoint::tokenizer(job.out) {
            fs::remove_file(file)?;
        }
        copy_tokenizer(tokenizer, job.out)?;
    }
    let mut metrics = Metrics::new();
    FAMILY.put(&mut metrics, outlook.family);
    PARAMETERS.put(&mut metrics, outlook.parameters);
    Ok(metrics)
}
