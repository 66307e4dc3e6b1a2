//! Which backend tensors live on: chosen by name at run time, opened in one `match`.

mod apart;
mod caches;
#[cfg(feature = "vulkan")]
mod drivers;
mod gpu;
mod lack;
mod list;
mod memory;
mod peak;
mod several;
#[cfg(feature = "vulkan")]
mod wgsl;

use anyhow::{Result, anyhow, bail};
#[cfg(feature = "gpu")]
use burn::tensor::DeviceType;
use burn::tensor::{DType, Device, Tensor, TensorData};
#[cfg(feature = "wgpu")]
use burn::tensor::{DeviceKind, Devices};

pub use crate::spec::{DeviceChoice, DeviceChoices};
use crate::{network::kernels, spec::Precision, support::panics::caught_everywhere};

pub use apart::{DeviceInfo, apart, end_with_parent};
pub use caches::{Kernels, keep_caches, made_kernels};
pub use gpu::{environment, gpu, keep_to};
pub use lack::{keep_lack_of_memory, kept_lack_of_memory, lack_of_memory};
pub use list::{devices, json, probe};
pub use memory::{available, held, memory};
pub use peak::{peak, peak_together};
pub use several::OpenDevices;

/// A backend that was opened and has answered.
#[derive(Clone, Debug)]
pub struct OpenDevice {
    /// Where tensors are made.
    pub device: Device,
    /// The choice that led here and the hardware's name, such as `cuda:0 (NVIDIA H100)`; `cpu` for the CPU.
    pub name: String,
    /// Why a driver for Vulkan is given WGSL, if that's in place of SPIR-V.
    pub by_wgsl: Option<String>,
    /// Whether its backend compiles kernels, and keeps them; other drivers are given their text.
    pub keeps_kernels: bool,
}

/// What `auto` tries before the CPU.
const GPUS: [DeviceChoice; 4] = [DeviceChoice::Cuda(0), DeviceChoice::Metal, DeviceChoice::Vulkan, DeviceChoice::Wgpu];

/// A device of a backend, not opened yet.
struct Found {
    device: Device,
    /// Whether a driver on the CPU only plays the GPU.
    software: bool,
    shaders: Shaders,
}

/// What a device's kernels are compiled to.
enum Shaders {
    /// What its backend always does.
    Usual,
    /// SPIR-V, if this driver for Vulkan takes it.
    #[cfg(feature = "vulkan")]
    Spirv(DeviceKind),
    /// WGSL, though this is a driver for Vulkan.
    #[cfg(feature = "vulkan")]
    Wgsl(DeviceKind),
}

/// NVIDIA GPUs that the driver knows of, none of which is opened for that.
#[cfg(feature = "cuda")]
fn gpus() -> usize {
    caught_everywhere(|| Device::enumerate(DeviceType::Cuda)).map_or(0, |devices| devices.len())
}

#[cfg(not(feature = "cuda"))]
fn gpus() -> usize {
    0
}

impl OpenDevice {
    /// Whether this is the CPU, whose kernels take batches of any shape.
    pub fn is_cpu(&self) -> bool {
        self.device == Device::flex()
    }

    /// Tells whether training can compute in this precision here.
    ///
    /// # Errors
    /// Why it can't.
    pub fn check_precision(&self, precision: Precision) -> Result<()> {
        let (dtype, name) = factors(precision);
        if dtype == DType::F32 {
            return Ok(());
        }
        if !self.device.supports_dtype(dtype) {
            bail!("{} has no arithmetic for {name}", self.name);
        }
        match caught_everywhere(|| multiplies(&self.device, dtype)) {
            Ok(true) => Ok(()),
            Ok(false) => bail!("{} gives wrong matrix products in {name}", self.name),
            Err(error) => bail!("{} can't multiply in {name}: {error}", self.name),
        }
    }

    /// Tells whether what lies between matrix products is computed by kernels of our own in this precision.
    ///
    /// # Errors
    /// Why it's computed by the backend's operations instead.
    pub fn check_kernels(&self, precision: Precision) -> Result<(), String> {
        if self.is_cpu() { Ok(()) } else { kernels::try_out(&self.device, factors(precision).0) }
    }
}

/// The type of what is multiplied, and what it's called.
fn factors(precision: Precision) -> (DType, &'static str) {
    match precision {
        Precision::F32 => (DType::F32, "f32"),
        Precision::Bf16 | Precision::Mixed => (DType::BF16, "bf16"),
        Precision::F16 => (DType::F16, "f16"),
    }
}

impl DeviceChoice {
    /// Tells, without opening anything, whether this build has the backend.
    ///
    /// # Errors
    /// Which feature to build with.
    pub fn check_support(self) -> Result<()> {
        let (supported, feature) = match self {
            Self::Auto | Self::Cpu => (true, ""),
            Self::Cuda(_) => (cfg!(feature = "cuda"), "cuda"),
            Self::Vulkan => (cfg!(feature = "vulkan"), "vulkan"),
            Self::Wgpu => (cfg!(feature = "wgpu"), "wgpu"),
            Self::Metal => (cfg!(feature = "metal"), "metal"),
        };
        if !supported {
            bail!("this build has no {feature} backend; build with `cargo build --release --features {feature}`");
        }
        Ok(())
    }

    /// Whether a GPU is meant, or would be found. None is opened for that.
    pub fn is_gpu(self) -> bool {
        match self {
            Self::Cpu => false,
            Self::Auto => GPUS.iter().any(|choice| choice.find().is_ok_and(|found| !found.software)),
            _ => true,
        }
    }

    /// Opens the device and runs one operation on it.
    ///
    /// # Errors
    /// A build without the backend, no such hardware, or a driver that fails.
    pub fn open(self) -> Result<OpenDevice> {
        if self == Self::Auto {
            for choice in GPUS {
                if let Ok(found) = choice.find()
                    && !found.software
                    && let Ok(open) = choice.start(found)
                {
                    return Ok(open);
                }
            }
            return Self::Cpu.open();
        }
        self.start(self.find()?)
    }

    /// The one place that knows the backends.
    fn find(self) -> Result<Found> {
        match self {
            Self::Auto | Self::Cpu => Ok(Found::usual(Device::flex(), false)),
            #[cfg(feature = "cuda")]
            Self::Cuda(index) => {
                let devices = caught_everywhere(|| Device::enumerate(DeviceType::Cuda))?;
                let count = devices.len();
                match devices.into_iter().nth(index) {
                    Some(device) => Ok(Found::usual(device, false)),
                    None if count == 0 => bail!("no NVIDIA GPU found; is the driver installed?"),
                    None => bail!("no GPU {index}; there are {count}, counted from 0"),
                }
            }
            #[cfg(feature = "vulkan")]
            Self::Vulkan => {
                let (device, kind, software) = adapter(self, DeviceType::Vulkan, Device::vulkan)?;
                Ok(Found { device, software, shaders: Shaders::Spirv(kind) })
            }
            #[cfg(feature = "wgpu")]
            Self::Wgpu => {
                let (device, kind, software) = adapter(self, DeviceType::Wgpu, Device::wgpu)?;
                #[cfg(feature = "vulkan")]
                let shaders = Shaders::Wgsl(kind);
                #[cfg(not(feature = "vulkan"))]
                let (shaders, _) = (Shaders::Usual, kind);
                Ok(Found { device, software, shaders })
            }
            #[cfg(feature = "metal")]
            Self::Metal => {
                let (device, _, software) = adapter(self, DeviceType::Metal, Device::metal)?;
                Ok(Found::usual(device, software))
            }
            #[cfg(not(all(feature = "cuda", feature = "vulkan", feature = "wgpu", feature = "metal")))]
            missing => {
                missing.check_support()?;
                bail!("{missing} can't be opened")
            }
        }
    }

    fn start(self, mut found: Found) -> Result<OpenDevice> {
        #[cfg(feature = "gpu")]
        if self != Self::Cpu {
            gpu::limit(found.software);
        }
        let by_wgsl = found.settle()?;
        let hardware = caught_everywhere(|| {
            // A device is opened by its first operation; the read-back waits until it has answered.
            multiplies(&found.device, DType::F32).then(|| hardware_name(&found.device))
        })
        .map_err(|error| anyhow!("can't open {self}: {error}"))?
        .ok_or_else(|| {
            anyhow!("can't use {self}: its matrix products are wrong, so nothing could be learned on this driver")
        })?;
        let ours = kernels::try_out(&found.device, DType::F32).err();
        let ours = ours.map(|reason| format!("without kernels of pipe's own: {reason}"));
        let but = by_wgsl.as_deref().map(translated).into_iter().chain(gpu::kept_from()).chain(ours);
        let name = match hardware {
            Some(hardware) => {
                let about: Vec<String> = [hardware].into_iter().chain(but).collect();
                format!("{self} ({})", about.join(", "))
            }
            None => self.to_string(),
        };
        let keeps_kernels = match self {
            Self::Cuda(_) => true,
            Self::Vulkan => by_wgsl.is_none(),
            _ => false,
        };
        Ok(OpenDevice { device: found.device, name, by_wgsl, keeps_kernels })
    }
}

/// What there is to say of a driver that is given WGSL for this reason.
fn translated(reason: &str) -> String {
    format!("by WGSL, since by SPIR-V {reason}")
}

impl Found {
    fn usual(device: Device, software: bool) -> Self {
        Self { device, software, shaders: Shaders::Usual }
    }

    /// Decides between SPIR-V and WGSL; says why it's WGSL where the other was meant.
    fn settle(&mut self) -> Result<Option<String>> {
        match &self.shaders {
            Shaders::Usual => Ok(None),
            #[cfg(feature = "vulkan")]
            Shaders::Wgsl(kind) => wgsl::open(kind).map(|()| None),
            #[cfg(feature = "vulkan")]
            Shaders::Spirv(kind) => {
                let Err(reason) = drivers::take_spirv(kind) else { return Ok(None) };
                wgsl::open(kind)?;
                self.device = Device::wgpu(kind.clone());
                Ok(Some(reason))
            }
        }
    }
}

/// Whether matrix products come out right: drivers are known that give zeros without saying that anything is wrong.
/// The elements are small integers, so the sums are exact in whatever order they're taken.
fn multiplies(device: &Device, dtype: DType) -> bool {
    [4, 32, 96].into_iter().all(|size| {
        let number = |row: usize, column: usize| ((row * 7 + column * 3) % 5) as f32 - 2.0;
        let matrix: Vec<f32> = (0..size * size).map(|place| number(place / size, place % size)).collect();
        let tensor = Tensor::<2>::from_data(TensorData::new(matrix, [size, size]), device).cast(dtype);
        let product = kernels::matmul(tensor.clone(), tensor.transpose()).cast(DType::F32);
        let product: Vec<f32> = product.into_data().iter::<f32>().collect();
        (0..size * size).all(|place| {
            let (row, column) = (place / size, place % size);
            let right = (0..size).map(|at| number(row, at) * number(column, at)).sum::<f32>();
            // A sum of 16 bits may have been rounded where it's above 256.
            (product[place] - right).abs() <= if dtype == DType::F32 { 0.0 } else { right.abs() / 128.0 }
        })
    })
}

/// The first real GPU that a graphics API reaches, or else its software driver; and whether it's that.
#[cfg(feature = "wgpu")]
fn adapter(
    choice: DeviceChoice,
    api: DeviceType,
    device: fn(DeviceKind) -> Device,
) -> Result<(Device, DeviceKind, bool)> {
    let reachable: Devices = caught_everywhere(|| Device::enumerate(api))?;
    let real = [DeviceKind::DiscreteGpu(0), DeviceKind::IntegratedGpu(0), DeviceKind::VirtualGpu(0)];
    let kinds = real.into_iter().map(|kind| (kind, false)).chain([(DeviceKind::Cpu, true)]);
    for (kind, software) in kinds {
        let device = device(kind.clone());
        if reachable.contains(&device) {
            return Ok((device, kind, software));
        }
    }
    bail!("{choice} reaches no GPU here")
}

#[cfg(feature = "gpu")]
fn hardware_name(device: &Device) -> Option<String> {
    device.identity().map(|identity| identity.name)
}

#[cfg(not(feature = "gpu"))]
fn hardware_name(_device: &Device) -> Option<String> {
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_read_as_they_are_written() {
        for name in ["auto", "cpu", "cuda:0", "cuda:3", "vulkan", "wgpu", "metal"] {
            assert_eq!(name.parse::<DeviceChoice>().unwrap().to_string(), name);
        }
        assert_eq!("cuda".parse::<DeviceChoice>().unwrap(), DeviceChoice::Cuda(0));
        for name in ["gpu", "cuda:", "cuda:-1", "CPU", ""] {
            let error = name.parse::<DeviceChoice>().unwrap_err().to_string();
            assert!(error.starts_with(&format!("unknown device `{name}`")), "{error}");
        }
    }

    #[test]
    fn cpu_opens_everywhere() {
        assert_eq!(DeviceChoice::Cpu.open().unwrap().name, "cpu");
    }

    #[cfg(not(feature = "gpu"))]
    #[test]
    fn missing_backends_name_their_feature() {
        let error = DeviceChoice::Cuda(1).open().unwrap_err().to_string();
        assert_eq!(error, "this build has no cuda backend; build with `cargo build --release --features cuda`");
        assert_eq!(DeviceChoice::Auto.open().unwrap().name, "cpu");
    }

    #[test]
    fn cpu_computes_with_all_numbers() {
        let cpu = DeviceChoice::Cpu.open().unwrap();
        for precision in [Precision::F32, Precision::Bf16, Precision::F16, Precision::Mixed] {
            cpu.check_precision(precision).unwrap();
        }
    }
}
