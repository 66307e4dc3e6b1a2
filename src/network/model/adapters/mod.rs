//! What is learned beside a model that stays as it is: LoRA and P-tuning v2, in PEFT's files.

mod layout;
mod lora;
mod low_rank;
mod peft;
mod prefix;
mod stored;

use std::path::Path;

use anyhow::Result;

use super::{initial::Initializer, network::Network, on_disk::is_called};
use crate::spec;

pub(super) use layout::{Adapters, Lora};
pub(super) use peft::Peft;
pub(crate) use stored::Checkpoint;

impl Network {
    /// Adds a new adapter to a network whose backbone is frozen.
    ///
    /// A begins uniform in ±1/√in, as PEFT's does (Kaiming's bound for a negative slope of √5), and B with zeros, so that the
    /// network computes at first what it did before. A prefix begins normally distributed, as ChatGLM's does.
    ///
    /// # Errors
    /// Targets that no linear layer's name ends with, and what could be meant; families without a place for a prefix.
    pub fn adapt(&mut self, adapter: &spec::Adapter, seed: u64) -> Result<()> {
        let on_disk = &self.family().on_disk;
        let deviation = self.architecture().sizes().initializer_range;
        let parameters = self.parameters_mut();
        let mut source = Initializer { seed };
        match adapter {
            spec::Adapter::Lora(lora) => {
                lora::check(parameters, on_disk, &lora.targets)?;
                let targeted = |module: &str| lora.targets.iter().any(|target| is_called(module, target));
                let layers = lora::backbone(parameters).collect();
                lora::attach(parameters, layers, on_disk, lora, &targeted, &mut source);
            }
            spec::Adapter::PTuning(tuning) => prefix::attach(parameters, tuning, deviation, &mut source)?,
        }
        parameters.adapters.settings = Some(adapter.clone());
        Ok(())
    }

    /// Adds the adapter of a checkpoint.
    ///
    /// # Errors
    /// Settings that aren't known, an adapter of another model: all that doesn't fit, a line each.
    pub(super) fn adapt_as(&mut self, stored: &Peft) -> Result<()> {
        let on_disk = &self.family().on_disk;
        let parameters = self.parameters_mut();
        let mut source = stored.source();
        match stored.settings() {
            spec::Adapter::Lora(lora) => {
                let layers = parameters.layers.clone();
                lora::attach(parameters, layers, on_disk, lora, &|module| stored.changes(module), &mut source);
            }
            spec::Adapter::PTuning(tuning) => prefix::attach(parameters, tuning, 0.0, &mut source)?,
        }
        parameters.adapters.settings = Some(stored.settings().clone());
        source.finish()
    }

    /// Writes all that is learned in PEFT's layout, beside a base that lies in the directory above.
    ///
    /// # Errors
    /// The file system's and the device's.
    pub(super) fn save_adapter(&self, directory: &Path) -> Result<()> {
        match &self.parameters().adapters.settings {
            Some(settings) => peft::write(self, settings, directory),
            None => Ok(()),
        }
    }

    /// Whether there is an adapter.
    pub fn is_adapted(&self) -> bool {
        self.parameters().adapters.settings.is_some()
    }
}
