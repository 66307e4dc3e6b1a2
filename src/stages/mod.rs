//! The kinds of stages: each reads its inputs, puts the parts of the program together, and writes its files.

mod batches;
pub mod bench;
mod capability;
mod check;
mod checkpoints;
mod classifier;
mod conversation;
pub mod estimate;
mod eval;
mod export;
mod figures;
mod finetune;
mod generate;
mod import;
mod instruction;
mod language;
pub mod metrics;
mod origin;
mod pretrain;
mod records;
mod rows;
mod task;
mod tokenize;
mod training;

use std::sync::{Mutex, PoisonError};

use anyhow::{Context, Result};

use crate::{
    engine::{
        executor::{Computed, Job, Runner},
        store::Artifact,
    },
    network::{
        batch::Layout,
        device::{DeviceChoice, DeviceChoices, OpenDevice, OpenDevices},
    },
    spec::Stage,
};

pub(crate) use batches::JUDGED_TOKENS;
pub use capability::DeviceCheck;
pub use check::{DataCheck, check_secrets, preflight};
pub use classifier::{Prediction, Trained};
pub use conversation::Conversation;
pub use figures::figures;
pub use generate::{Show, Writer, Written};
pub(crate) use records::write as write_columns;

/// The tokenizer's file in the artifacts of tokenize, pretrain and finetune stages.
const TOKENIZER: &str = "tokenizer.json";

/// Runs stages of all kinds on one device, or training ones on several, which are opened when the first stage needs them.
pub struct Stages {
    choices: DeviceChoices,
    open: Mutex<Option<OpenDevices>>,
}

impl Stages {
    /// Stages that run on these devices.
    pub fn new(choices: DeviceChoices) -> Self {
        Self { choices, open: Mutex::new(None) }
    }

    fn open(&self) -> Result<OpenDevices> {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(devices) = &*open {
            return Ok(devices.clone());
        }
        let devices = self.choices.open()?;
        *open = Some(devices.clone());
        Ok(devices)
    }
}

impl Runner for Stages {
    fn run(&self, job: &Job<'_>) -> Result<Computed> {
        match job.stage {
            Stage::Tokenize(spec) => tokenize::tokenize(job, spec).map(Computed::from),
            Stage::Pretrain(spec) => pretrain::pretrain(job, spec, &self.open()?),
            Stage::Finetune(spec) => finetune::finetune(job, spec, &self.open()?),
            Stage::Eval(spec) => eval::eval(job, spec, &self.open()?.first).map(Computed::from),
            Stage::Import(_) => import::import(job).map(Computed::from),
            Stage::Export(spec) => export::export(job, spec).map(Computed::from),
        }
    }

    fn device(&self, stage: &Stage) -> String {
        let open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        match (stage, &*open) {
            (Stage::Tokenize(_) | Stage::Import(_) | Stage::Export(_), _) | (_, None) => DeviceChoice::Cpu.to_string(),
            (Stage::Eval(_), Some(devices)) => devices.first.name.clone(),
            (_, Some(devices)) => devices.name(),
        }
    }
}

/// The artifact that a field of the spec names.
fn input<'a>(job: &'a Job<'_>, field: &str) -> Result<&'a Artifact> {
    job.inputs.get(field).with_context(|| format!("`{field}` was not resolved"))
}

/// The CPU's kernels take examples without padding; other backends want rectangles.
fn layout(device: &OpenDevice, width: usize, packing: bool) -> Layout {
    if device.is_cpu() { Layout::Ragged } else { Layout::Rows { width, packing } }
}
