//! Several devices of one machine, which share the steps of a training: what they're opened as.

use anyhow::Result;
use burn::tensor::Device;

use super::{OpenDevice, gpus};
use crate::spec::{DeviceChoice, DeviceChoices};

/// Devices that were opened.
#[derive(Clone, Debug)]
pub struct OpenDevices {
    /// The one that measures, stores and does all that isn't shared.
    pub first: OpenDevice,
    /// Those that training is shared with.
    pub others: Vec<OpenDevice>,
}

impl DeviceChoices {
    /// With all devices that are meant, where a name alone stands for those there are. Nothing is opened.
    ///
    /// # Errors
    /// A backend that this build lacks.
    pub fn found(self) -> Result<Self> {
        self.first.check_support()?;
        let backend = match self.first {
            DeviceChoice::Auto if self.all && gpus() > 1 => DeviceChoice::Cuda(0),
            first => first,
        };
        let others = match backend {
            DeviceChoice::Cuda(_) if self.all => (1..gpus()).map(DeviceChoice::Cuda).collect(),
            _ => self.others,
        };
        Ok(Self { first: backend, others, all: false })
    }

    /// Opens each of them.
    ///
    /// # Errors
    /// The first that can't be opened, and why.
    pub fn open(&self) -> Result<OpenDevices> {
        let mut first = self.first.open()?;
        let mut others = self.others.iter().map(|choice| choice.open()).collect::<Result<Vec<_>>>()?;
        if first.is_cpu() && !others.is_empty() {
            for (open, name) in [&mut first].into_iter().chain(&mut others).zip(self.names()) {
                open.name = name;
            }
        }
        Ok(OpenDevices { first, others })
    }
}

impl OpenDevices {
    /// All of them.
    pub fn all(&self) -> impl Iterator<Item = &OpenDevice> {
        [&self.first].into_iter().chain(&self.others)
    }

    /// Where tensors are made, the first device first.
    pub fn devices(&self) -> Vec<Device> {
        self.all().map(|open| open.device.clone()).collect()
    }

    /// Their names.
    pub fn name(&self) -> String {
        self.all().map(|open| open.name.as_str()).collect::<Vec<_>>().join(", ")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> DeviceChoices {
        text.parse().unwrap()
    }

    #[test]
    fn cpu_opens_in_several_roles() {
        let open = read("cpu:0-2").found().unwrap().open().unwrap();
        assert_eq!((open.name(), open.devices().len()), ("cpu:0, cpu:1, cpu:2".to_owned(), 3));
        assert_eq!(read("cpu").open().unwrap().name(), "cpu");
    }

    #[cfg(not(feature = "gpu"))]
    #[test]
    fn all_devices_of_a_build_without_gpus_are_the_cpu() {
        let auto = read("auto").found().unwrap();
        assert_eq!((auto.first, auto.count()), (DeviceChoice::Auto, 1));
        let error = read("cuda").found().unwrap_err().to_string();
        assert!(error.starts_with("this build has no cuda backend"), "{error}");
    }
}
