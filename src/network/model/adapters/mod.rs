//! What is learned beside a model that stays as it is: LoRA and P-tuning v2, in PEFT's files.

mod config;
mod layout;
mod lora;
mod low_rank;
mod peft;
mod prefix;
mod stored;
mod targets;
mod writing;

use std::path::Path;

use anyhow::{Result, ensure};

use super::{
    initial::Initializer,
    network::Network,
    on_disk::{OnDisk, PrefixTuning, is_called},
};
use crate::{network::batch::Batch, spec};

pub(super) use layout::{Adapters, Lora};
pub(super) use peft::Peft;
pub(crate) use stored::Checkpoint;
pub use writing::settle;

impl Network {
    /// Adds a new adapter to a network whose backbone is frozen.
    ///
    /// A begins uniform in ±1/√in, as PEFT's does (Kaiming's bound for a negative slope of √5), and B with zeros, so that the
    /// network computes at first what it did before. A prefix begins normally distributed with a deviation of 1, as PEFT's
    /// and ChatGLM's do.
    ///
    /// # Errors
    /// Targets that no linear layer's name ends with, and what could be meant; families without a place for a prefix.
    pub fn adapt(&mut self, adapter: &spec::Adapter, seed: u64) -> Result<()> {
        let on_disk = &self.family().on_disk;
        let parameters = self.parameters_mut();
        let mut source = Initializer { seed };
        match adapter {
            spec::Adapter::Lora(lora) => {
                lora::check(parameters, on_disk, &lora.targets)?;
                let targeted = |module: &str| lora.targets.iter().any(|target| is_called(module, target));
                let layers = lora::backbone(parameters).collect();
                lora::attach(parameters, layers, on_disk, lora, &targeted, &mut source);
            }
            spec::Adapter::PTuning(tuning) => {
                prefix::attach(parameters, tuning, on_disk.positions_taken(tuning.tokens), &mut source)?;
            }
        }
        parameters.adapters.settings = Some(adapter.clone());
        Ok(())
    }

    /// Refuses a checkpoint's adapter that was made for other layers than the model has. No values are needed.
    ///
    /// # Errors
    /// All that doesn't fit, a line each.
    pub(super) fn check_adapter(&self, stored: &Peft) -> Result<()> {
        let (on_disk, parameters) = (&self.family().on_disk, self.parameters());
        let modules = |ids: &mut dyn Iterator<Item = _>| -> Vec<String> {
            ids.flat_map(|id| on_disk.modules(parameters.described(id).0)).collect()
        };
        match stored.settings() {
            spec::Adapter::Lora(_) => {
                let (all, backbone) = (modules(&mut parameters.layers()), modules(&mut lora::backbone(parameters)));
                stored.check_layers(&all, &backbone)
            }
            spec::Adapter::PTuning(_) => {
                ensure!(
                    !stored.config().is_past || on_disk.prefix_tuning != PrefixTuning::Own,
                    "PEFT's prefix tuning isn't supported for {} models",
                    self.family().name
                );
                prefix::check(parameters, stored.config().sizes)
            }
        }
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
            spec::Adapter::PTuning(tuning) => {
                prefix::attach(parameters, tuning, stored.taken(on_disk), &mut source)?;
            }
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
            Some(settings) => writing::write(self, settings, directory),
            None => Ok(()),
        }
    }

    /// Whether there is an adapter.
    pub fn is_adapted(&self) -> bool {
        self.parameters().adapters.settings.is_some()
    }

    /// The longest sequence that it's made for, in tokens. A prefix that tokens count their positions on from takes some of
    /// those that a table has.
    pub fn max_length(&self) -> usize {
        self.architecture().sizes().max_length_behind(self.positions_taken())
    }

    /// # Errors
    /// Positions that are past the last one, since a prefix has taken the first ones.
    pub(super) fn check_behind_prefix(&self, batch: &Batch) -> Result<()> {
        let (sizes, taken) = (self.architecture().sizes(), self.positions_taken());
        let position = batch.positions.iter().max().map_or(0, |&position| position as usize);
        ensure!(
            taken == 0 || sizes.positions.is_none_or(|rows| position + taken < rows),
            "position {position} is past the {} that the prefix leaves of the model's max_length of {}",
            self.max_length(),
            sizes.max_length
        );
        Ok(())
    }

    fn positions_taken(&self) -> usize {
        self.parameters().adapters.prefix.as_ref().map_or(0, |prefix| prefix.shift as usize)
    }
}

impl Peft {
    /// How many positions it takes, in models of a family.
    pub(super) fn taken(&self, on_disk: &OnDisk) -> usize {
        match self.settings() {
            spec::Adapter::PTuning(tuning) if self.config().is_past => on_disk.positions_taken(tuning.tokens),
            _ => 0,
        }
    }
}
