//! What there is to run on: `pipe devices`.
//!
//! Drivers have been seen to end the process that opens them, so each device is opened by a process of its own, which is
//! asked what it found.

use std::process::{Command, Stdio};

use anyhow::{Context, Result, anyhow};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{
    DeviceChoice, Found, hardware_name,
    memory::{memory, nvidia},
};
use crate::spec::Precision;

/// A device, and what can be done with it.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
pub struct DeviceInfo {
    /// What to write after `--device`.
    pub device: String,
    /// Whether it can be used.
    pub usable: bool,
    /// The hardware's name.
    pub hardware: Option<String>,
    /// The driver's version, where it's known.
    pub driver: Option<String>,
    /// Bytes of memory, where that's known.
    pub memory_bytes: Option<u64>,
    /// What its kernels are compiled for, or the instructions that they use.
    pub features: Vec<String>,
    /// The precisions that training can have on it.
    pub precision: Vec<String>,
    /// Why it can't be used, or what to know about it.
    pub note: Option<String>,
}

/// Every device there could be, with what stands in the way of those that can't be used.
///
/// # Errors
/// None of a device; only if this program can't be started again.
pub fn devices() -> Result<Vec<DeviceInfo>> {
    use DeviceChoice::{Cpu, Cuda, Metal, Vulkan, Wgpu};
    let mut found = vec![probe(Cpu)];
    for index in 0.. {
        let info = apart(Cuda(index))?;
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
        found.push(apart(choice)?);
    }
    Ok(found)
}

/// Asks another process of this program, which a bad driver may end.
fn apart(choice: DeviceChoice) -> Result<DeviceInfo> {
    let name = choice.to_string();
    if let Err(error) = choice.check_support() {
        return Ok(DeviceInfo { device: name, note: Some(error.to_string()), ..DeviceInfo::default() });
    }
    let program = std::env::current_exe().context("can't find this program's own file")?;
    let mut command = Command::new(program);
    command.args(["devices", "--probe", &name]).stdin(Stdio::null()).stderr(Stdio::null());
    let output = command.output().context("can't start this program again")?;
    let info = serde_json::from_slice(&output.stdout).map_err(|_| anyhow!("the driver ended the process"));
    Ok(info.unwrap_or_else(|error| {
        let note = Some(format!("{error} ({})", output.status));
        DeviceInfo { device: name, note, ..DeviceInfo::default() }
    }))
}

/// Opens a device and tries what it can.
pub fn probe(choice: DeviceChoice) -> DeviceInfo {
    let name = choice.to_string();
    match choice.find().and_then(|found| examine(choice, found)) {
        Ok(info) => DeviceInfo { device: name, usable: true, ..info },
        Err(error) => DeviceInfo { device: name, note: Some(error.to_string()), ..DeviceInfo::default() },
    }
}

fn examine(choice: DeviceChoice, found: Found) -> Result<DeviceInfo> {
    let note = found.software.then(|| "a software driver; `auto` never takes it".to_owned());
    let open = choice.start(found)?;
    let precisions = [Precision::F32, Precision::Mixed, Precision::Bf16, Precision::F16];
    let works: Vec<Precision> =
        precisions.into_iter().filter(|precision| open.check_precision(*precision).is_ok()).collect();
    let slower = works.iter().filter_map(|precision| {
        let reason = open.check_kernels(*precision).err()?;
        Some(format!("{} without kernels of pipe's own: {reason}", precision.name()))
    });
    let notes: Vec<String> = note.into_iter().chain(slower).collect();
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
