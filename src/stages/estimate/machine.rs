//! Where training would take place, as far as estimates need to know.

use burn::tensor::Device;

use crate::network::device::{self, DeviceChoice, DeviceChoices};

/// GPUs of one machine that are told apart by their numbers.
#[cfg(feature = "cuda")]
const MOST_GPUS: usize = 16;

/// A device, or several alike, as far as that's known without opening any.
#[derive(Clone, Debug)]
pub struct Machine {
    /// What people call it.
    pub name: String,
    /// Whether its kernels are those of the CPU.
    pub is_cpu: bool,
    /// Bytes of memory, of each device; `None` where nobody tells.
    pub memory: Option<u64>,
    /// Devices that share each step.
    pub devices: usize,
}

impl Machine {
    /// Where a run with these choices would take place. Of several devices the one with the least memory counts.
    pub fn new(choices: &DeviceChoices) -> Self {
        let machines = [choices.first].into_iter().chain(choices.others.iter().copied()).map(Self::one);
        let least = machines.min_by_key(|machine| machine.memory).unwrap_or_else(Self::cpu);
        let name = if least.is_cpu || choices.others.is_empty() { least.name } else { format!("each of {choices}") };
        Self { name, devices: choices.count(), ..least }
    }

    /// Where a run on this device alone would.
    fn one(choice: DeviceChoice) -> Self {
        let others = [DeviceChoice::Cuda(0), DeviceChoice::Metal, DeviceChoice::Vulkan, DeviceChoice::Wgpu];
        let only_cpu = others.iter().all(|other| other.check_support().is_err());
        match choice {
            DeviceChoice::Cpu => Self::cpu(),
            DeviceChoice::Auto if only_cpu => Self::cpu(),
            DeviceChoice::Cuda(_) => Self::gpu(choice.to_string(), device::memory(choice)),
            _ => Self::gpu(choice.to_string(), None),
        }
    }

    /// Where tensors of these devices, the first of which counts, are computed.
    pub(super) fn of(devices: &[Device]) -> Self {
        Self { devices: devices.len(), ..devices.first().map_or_else(Self::cpu, Self::of_one) }
    }

    fn of_one(device: &Device) -> Self {
        #[cfg(feature = "cuda")]
        if let Some(index) = (0..MOST_GPUS).find(|&index| *device == Device::cuda(index)) {
            return Self::one(DeviceChoice::Cuda(index));
        }
        if *device == Device::flex() { Self::cpu() } else { Self::gpu("the GPU".into(), None) }
    }

    fn gpu(name: String, memory: Option<u64>) -> Self {
        Self { name, is_cpu: false, memory, devices: 1 }
    }

    fn cpu() -> Self {
        Self { name: "this machine".into(), is_cpu: true, memory: device::memory(DeviceChoice::Cpu), devices: 1 }
    }

    /// What estimates may fill of its memory: they are within 20 %, and others use the device too.
    pub(super) fn spared(&self) -> Option<u64> {
        self.memory.map(|memory| memory / 10 * 8)
    }

    /// Replicas of what is trained that lie in one memory: the CPU's roles all do.
    pub(super) fn replicas(&self) -> u64 {
        if self.is_cpu { self.devices as u64 } else { 1 }
    }
}
