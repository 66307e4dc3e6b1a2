//! `export`: make a model ready for others.

use anyhow::Result;

use crate::{
    engine::{
        executor::{Computed, Event, Job},
        store::Metrics,
    },
    network::{
        checkpoint,
        model::{self, CopyOptions, Network},
    },
    recipe::{Checks, Draft},
    spec::{self, Dtype, Export, Product},
    stages::{
        Devices, Field, StageKind,
        metrics::{PARAMETERS, WEIGHT_FILES},
        parts::{
            origin::{Origin, OriginFields},
            transformers::Known,
        },
    },
};

const MODEL: OriginFields =
    OriginFields { stage: Field("model"), checkpoint: Field("model.checkpoint"), tokenizer: Field("model.tokenizer") };

impl StageKind for Export {
    const NAME: &'static str = "export";
    const ABOUT: &'static str = "Make a model ready for others";
    const PRODUCTS: &'static [Product] = &[Product::Checkpoint];
    const FIELDS: &'static [Field] = &[MODEL.stage, MODEL.checkpoint, MODEL.tokenizer];

    fn check(&self, stage: &Draft, checks: &mut Checks<'_>) {
        if self.max_shard_size.bytes().is_none() {
            let pointer = stage.pointer("max_shard_size");
            let message = format!("invalid file size `{}`", checks.shown(&pointer));
            let hint = "write a whole number with a unit, such as 500MB or 5GB".to_owned();
            checks.report(checks.value(&pointer), message, hint);
        }
        if self.weights.is_some() && self.dtype != Dtype::Stored {
            let message = "`weights` says what the weights are stored as, and so does `dtype`".to_owned();
            checks.report(checks.value(&stage.pointer("dtype")), message, "name one of the two".to_owned());
        }
    }

    fn metrics(&self, _checks: &Checks<'_>) -> Option<Vec<String>> {
        Some([PARAMETERS, WEIGHT_FILES].map(|metric| metric.name.to_owned()).into())
    }

    fn version(&self) -> Result<u32> {
        // The second says what the model's stage knows of it, and refuses values that a type can't hold.
        let narrow = matches!(self.dtype, Dtype::F16 | Dtype::Bf16);
        Ok(if matches!(self.model, spec::Origin::Stage(_)) || narrow { 2 } else { 1 })
    }

    /// Writes weights, `config.json` and tokenizer; `pipe export` copies them out of the store.
    fn run(&self, job: &Job<'_>, _devices: &Devices) -> Result<Computed> {
        let origin = Origin::needed(job, &MODEL)?;
        let known = MODEL.stage.artifact(job).map(Known::of).transpose()?.flatten();
        let most = self.max_shard_size.bytes().unwrap_or(u64::MAX);
        let parameters = Network::inspect(&origin.model)?.parameters;
        match self.weights {
            Some(form) => model::copy_held(&origin.model, job.out, form, most)?,
            None => {
                let without = known.as_ref().map_or(&[][..], |known| known.head.without());
                model::copy(&origin.model, job.out, &CopyOptions { dtype: self.dtype, most, without })?;
            }
        }
        if origin.tokenizer != origin.model {
            origin.copy_tokenizer(job.out)?;
        }
        if let Some(known) = &known {
            known.complete(job.out)?;
            known.notes(&origin.model)?.iter().for_each(|note| job.report(Event::Note(note)));
        }
        let mut metrics = Metrics::new();
        PARAMETERS.put(&mut metrics, parameters);
        WEIGHT_FILES.put(&mut metrics, checkpoint::weights(job.out)?.len());
        Ok(metrics.into())
    }
}
