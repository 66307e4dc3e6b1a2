//! Where training would take place, as far as estimates need to know.

use burn::tensor::Device;

use crate::device::{self, DeviceChoice};

/// GPUs of one machine that are told apart by their numbers.
#[cfg(feature = "cuda")]
const MOST_GPUS: usize = 16;

/// A device, as far as it's known without opening it.
#[derive(Clone, Debug)]
pub struct Machine {
    /// What people call it.
    pub name: String,
    /// Whether its kernels are those of the CPU.
    pub is_cpu: bool,
    /// Bytes of memory; `None` where nobody tells.
    pub memory: Option<u64>,
}

impl Machine {
    /// Where a run with this choice would take place.
    pub fn new(choice: DeviceChoice) -> Self {
        let others = [DeviceChoice::Cuda(0), DeviceChoice::Metal, DeviceChoice::Vulkan, DeviceChoice::Wgpu];
        let only_cpu = others.iter().all(|other| other.check_support().is_err());
        match choice {
            DeviceChoice::Cpu => Self::cpu(),
            DeviceChoice::Auto if only_cpu => Self::cpu(),
            DeviceChoice::Cuda(_) => Self { name: choice.to_string(), is_cpu: false, memory: device::memory(choice) },
            _ => Self { name: choice.to_string(), is_cpu: false, memory: None },
        }
    }

    /// Where tensors of this device are computed.
    pub(super) fn of(device: &Device) -> Self {
        let is_cpu = *device == Device::flex();
        #[cfg(feature = "cuda")]
        if let Some(index) = (0..MOST_GPUS).find(|&index| *device == Device::cuda(index)) {
            return Self::new(DeviceChoice::Cuda(index));
        }
        if is_cpu { Self::cpu() } else { Self { name: "the GPU".into(), is_cpu, memory: None } }
    }

    fn cpu() -> Self {
        Self { name: "this machine".into(), is_cpu: true, memory: device::memory(DeviceChoice::Cpu) }
    }
}
