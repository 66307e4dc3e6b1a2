//! What there is to run on: `pipe devices`.
//!
//! Drivers have been seen to end the process that opens them, so each device is opened by a process of its own, which is
//! asked what it found.

use std::process::{Command, Stdio};

use anyhow::Result;
use serde_json::Value;

use super::{
    DeviceChoice, Found,
    apart::{DeviceInfo, apart},
    gpu::gpu,
    hardware_name,
    memory::{memory, nvidia},
    translated,
};
use crate::spec::Precision;
#[cfg(feature = "vulkan")]
use crate::{network::kernels, support::panics::caught_everywhere};

/// Every device there could be, with what stands in the way of those that can't be used.
///
/// # Errors
/// None of a device; only if this program can't be started again.
pub fn devices() -> Result<Vec<DeviceInfo>> {
    use DeviceChoice::{Cpu, Cuda, Metal, Vulkan, Wgpu};
    let mut found = vec![probe(Cpu, false)];
    for index in 0.. {
        let info = listed(Cuda(index))?;
        // The first one says why there is none.
        if index > 0 && !info.usable {
            break;
        }
        let usable = info.usable;
        found.push(info);
        if !usable {
            break;
        }
    }
    for choice in [Vulkan, Wgpu, Metal] {
        found.push(listed(choice)?);
    }
    Ok(found)
}

fn listed(choice: DeviceChoice) -> Result<DeviceInfo> {
    let device = choice.to_string();
    let problem = match choice.check_support() {
        Err(error) => error.to_string(),
        Ok(()) => match apart(&device, &[], gpu())? {
            Ok(info) => return Ok(info),
            Err(problem) => problem,
        },
    };
    Ok(DeviceInfo { device, note: Some(problem), ..DeviceInfo::default() })
}

/// Opens a device and tries what it can; by SPIR-V, if that's what is to be tried.
pub fn probe(choice: DeviceChoice, by_spirv: bool) -> DeviceInfo {
    let name = choice.to_string();
    let found = choice.find().map(|found| if by_spirv { Found::usual(found.device, found.software) } else { found });
    match found.and_then(|found| examine(choice, found, by_spirv)) {
        Ok(info) => DeviceInfo { device: name, usable: !info.wrong, ..info },
        Err(error) => DeviceInfo { device: name, note: Some(error.to_string()), ..DeviceInfo::default() },
    }
}

#[cfg_attr(not(feature = "vulkan"), expect(unused_variables))]
fn examine(choice: DeviceChoice, found: Found, by_spirv: bool) -> Result<DeviceInfo> {
    let note = found.software.then(|| "a software driver; `auto` never takes it".to_owned());
    let open = choice.start(found)?;
    #[cfg(feature = "vulkan")]
    if by_spirv && !caught_everywhere(|| kernels::shared_memory_holds(&open.device))? {
        let note = Some("memory that units share doesn't hold what they put there".to_owned());
        return Ok(DeviceInfo { wrong: true, note, ..DeviceInfo::default() });
    }
    let translated = open.by_wgsl.as_deref().map(translated);
    let precisions = [Precision::F32, Precision::Mixed, Precision::Bf16, Precision::F16];
    let works: Vec<Precision> =
        precisions.into_iter().filter(|precision| open.check_precision(*precision).is_ok()).collect();
    let slower = works.iter().filter_map(|precision| {
        let reason = open.check_kernels(*precision).err()?;
        Some(format!("{} without kernels of pipe's own: {reason}", precision.name()))
    });
    let notes: Vec<String> = note.into_iter().chain(translated).chain(slower).collect();
    let mut info = DeviceInfo {
        precision: works.iter().map(|precision| precision.name().to_owned()).collect(),
        hardware: hardware_name(&open.device),
        memory_bytes: memory(choice),
        features: compiled_for(&open.device).into_iter().collect(),
        note: (!notes.is_empty()).then(|| notes.join("; ")),
        ..DeviceInfo::default()
    };
    match choice {
        DeviceChoice::Cpu => {
            let threads = std::thread::available_parallelism().map_or(1, usize::from);
            info.hardware = processor();
            info.features = instructions();
            info.features.push(format!("{threads} threads"));
        }
        DeviceChoice::Cuda(index) => info.driver = nvidia(index, "driver_version"),
        _ => info.driver = vulkan_driver(info.hardware.as_deref()),
    }
    Ok(info)
}

/// What Vulkan's own tool says of a device, where it's installed.
fn vulkan_driver(hardware: Option<&str>) -> Option<String> {
    let output = Command::new("vulkaninfo").arg("--summary").stderr(Stdio::null()).output().ok()?;
    let text = String::from_utf8(output.stdout).ok()?;
    let device = text
        .split("deviceName")
        .find(|part| part.lines().next().is_some_and(|line| hardware.is_some_and(|name| line.contains(name))))?;
    let line = device.lines().find(|line| line.trim_start().starts_with("driverInfo"))?;
    Some(line.split_once('=')?.1.trim().to_owned())
}

fn processor() -> Option<String> {
    let text = std::fs::read_to_string("/proc/cpuinfo").ok()?;
    let line = text.lines().find(|line| line.starts_with("model name"))?;
    Some(line.split_once(':')?.1.trim().to_owned())
}

/// The vector instructions that the kernels have versions for.
fn instructions() -> Vec<String> {
    #[cfg(target_arch = "x86_64")]
    let found = [("avx2", is_x86_feature_detected!("avx2")), ("avx512f", is_x86_feature_detected!("avx512f"))];
    #[cfg(not(target_arch = "x86_64"))]
    let found: [(&str, bool); 0] = [];
    found.into_iter().filter(|(_, there)| *there).map(|(name, _)| name.to_owned()).collect()
}

#[cfg(feature = "gpu")]
fn compiled_for(device: &burn::tensor::Device) -> Option<String> {
    device.identity().map(|identity| identity.fingerprint)
}

#[cfg(not(feature = "gpu"))]
fn compiled_for(_device: &burn::tensor::Device) -> Option<String> {
    None
}

/// The record as `pipe devices --json` prints it: each precision with whether it works.
pub fn json(info: &DeviceInfo) -> Value {
    let mut value = serde_json::json!(info);
    let all = ["f32", "mixed", "bf16", "f16"];
    value["precision"] = all.iter().map(|&name| (name, info.precision.iter().any(|works| works == name))).collect();
    value
}
