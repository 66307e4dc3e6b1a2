//! `import`: take a checkpoint into the store.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use fs_err as fs;

use crate::{
    engine::{
        executor::{Computed, Job},
        store::Metrics,
    },
    network::{
        checkpoint,
        model::{self, Network, stored_form},
    },
    recipe::Checks,
    spec::{Import, Product},
    stages::{
        BaseModel, Devices, Facts, Field, StageKind,
        metrics::{FAMILY, PARAMETERS},
        parts::{origin::copy_tokenizer, transformers::MOST},
    },
};

const PATH: Field = Field("path");
const TOKENIZER: Field = Field("tokenizer");

impl StageKind for Import {
    const NAME: &'static str = "import";
    const ABOUT: &'static str = "Take a checkpoint into the store";
    const PRODUCTS: &'static [Product] = &[Product::Model, Product::Tokenizer];
    const FIELDS: &'static [Field] = &[PATH, TOKENIZER];

    fn facts(&self) -> Result<Facts> {
        let base_model = BaseModel::Checkpoint {
            field: PATH,
            directory: self.place(),
            tokenizer: TOKENIZER,
            needs_tokenizer: false,
            bytes: false,
        };
        Ok(Facts { base_model: Some(base_model), ..Facts::default() })
    }

    fn metrics(&self, _checks: &Checks<'_>) -> Option<Vec<String>> {
        Some(vec![PARAMETERS.name.to_owned()])
    }

    /// Checks the checkpoint, and copies the files that make the model, as they are. Weights that PyTorch wrote become
    /// safetensors, number for number.
    fn run(&self, job: &Job<'_>, _devices: &Devices) -> Result<Computed> {
        let from = PATH.file(job).context("`path` was not resolved")?;
        let outlook = Network::inspect(from)?;
        match self.weights {
            Some(form) => {
                ensure!(
                    !stored_form(from)?.is_adapted,
                    "an adapter has no weights of its own to store in {}: import its base",
                    form.name()
                );
                model::copy_held(from, job.out, form, u64::MAX)?;
            }
            None => {
                let base = checkpoint::base(from);
                let converted = match checkpoint::has_safetensors(&base) {
                    true => Vec::new(),
                    false => checkpoint::weight_files(&base)?.iter().map(|file| base.join(file)).collect(),
                };
                if !converted.is_empty() {
                    model::convert(&base, job.out, MOST)?;
                }
                copy(checkpoint::files(from).iter().filter(|file| !converted.contains(file)), job.out)?;
            }
        }
        if let Some(tokenizer) = TOKENIZER.file(job) {
            for file in checkpoint::tokenizer(job.out) {
                fs::remove_file(file)?;
            }
            copy_tokenizer(tokenizer, job.out)?;
        }
        let mut metrics = Metrics::new();
        FAMILY.put(&mut metrics, outlook.family.name);
        PARAMETERS.put(&mut metrics, outlook.parameters);
        Ok(metrics.into())
    }
}

fn copy<'a>(files: impl Iterator<Item = &'a PathBuf>, to: &Path) -> Result<()> {
    for file in files {
        fs::copy(file, to.join(file.file_name().unwrap_or_default()))?;
    }
    Ok(())
}
