//! The devices that stages run on, opened when the first stage needs them.

use anyhow::Result;
use parking_lot::Mutex;

use crate::network::{
    device::{DeviceChoice, DeviceChoices, OpenDevice, OpenDevices},
    kernels,
};

/// Where a stage of a kind computes.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum DeviceUse {
    /// It has no tensors, or keeps them in the CPU's memory.
    None,
    /// The first device.
    One,
    /// All devices share it.
    All,
}

/// The devices of a run.
pub struct Devices {
    choices: DeviceChoices,
    open: Mutex<Option<OpenDevices>>,
}

impl Devices {
    /// These, none of which is opened yet.
    pub fn new(choices: DeviceChoices) -> Self {
        Self { choices, open: Mutex::new(None) }
    }

    /// What they're called.
    pub fn choices(&self) -> &DeviceChoices {
        &self.choices
    }

    /// All of them.
    ///
    /// # Errors
    /// If one can't be opened.
    pub fn all(&self) -> Result<OpenDevices> {
        let mut open = self.open.lock();
        if let Some(devices) = &*open {
            return Ok(devices.clone());
        }
        let devices = self.choices.open()?;
        *open = Some(devices.clone());
        Ok(devices)
    }

    /// The first of them.
    ///
    /// # Errors
    /// If one can't be opened.
    pub fn first(&self) -> Result<OpenDevice> {
        Ok(self.all()?.first)
    }

    /// Computes without kernels of our own from now on, for this reason.
    ///
    /// # Errors
    /// If a device can't be opened.
    pub(super) fn give_up_kernels(&self, reason: &str) -> Result<()> {
        self.all()?.devices().iter().for_each(|device| kernels::give_up(device, reason));
        // Its name says so, once it's opened again.
        *self.open.lock() = None;
        Ok(())
    }

    /// What a stage ran on that used them so.
    pub fn name(&self, used: DeviceUse) -> String {
        match (used, &*self.open.lock()) {
            (DeviceUse::None, _) | (_, None) => DeviceChoice::Cpu.to_string(),
            (DeviceUse::One, Some(devices)) => devices.first.name.clone(),
            (DeviceUse::All, Some(devices)) => devices.name(),
        }
    }
}
