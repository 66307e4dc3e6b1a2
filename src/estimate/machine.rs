//! How much memory a device has for us, asked without opening it.

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
            DeviceChoice::Cuda(index) => Self { name: choice.to_string(), is_cpu: false, memory: nvidia(index) },
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
        let limits = [physical(), control_group()];
        Self { name: "this machine".into(), is_cpu: true, memory: limits.into_iter().flatten().min() }
    }
}

/// Linux tells; other systems not this way.
fn physical() -> Option<u64> {
    let text = std::fs::read_to_string("/proc/meminfo").ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix("MemTotal:"))?;
    let kilobytes: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kilobytes * 1024)
}

/// What a container may take, by version 2 or 1 of control groups; a word, or a huge number, where there's no limit.
fn control_group() -> Option<u64> {
    let files = ["/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"];
    files.iter().find_map(|file| std::fs::read_to_string(file).ok()?.trim().parse().ok())
}

/// What NVIDIA's tool says, in MiB.
fn nvidia(index: usize) -> Option<u64> {
    let mebibytes: u64 = device::nvidia(index, "memory.total")?.parse().ok()?;
    Some(mebibytes << 20)
}
