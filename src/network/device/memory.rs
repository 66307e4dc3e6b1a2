//! How much memory a device has for us, asked without opening it.

use std::process::{Command, Stdio};

use burn::tensor::Device;

use super::DeviceChoice;

/// Bytes of memory; `None` if unknown.
pub fn memory(choice: DeviceChoice) -> Option<u64> {
    match choice {
        DeviceChoice::Cpu => [physical(), control_group()].into_iter().flatten().min(),
        DeviceChoice::Cuda(index) => {
            let mebibytes: u64 = nvidia(index, "memory.total")?.parse().ok()?;
            Some(mebibytes << 20)
        }
        _ => None,
    }
}

/// Bytes of memory that aren't in use, as far as that's known; `None` if nobody tells.
pub fn available(choice: DeviceChoice) -> Option<u64> {
    let all = memory(choice)?;
    if choice != DeviceChoice::Cpu {
        return Some(all);
    }
    let used = ["/sys/fs/cgroup/memory.current", "/sys/fs/cgroup/memory/memory.usage_in_bytes"];
    let used = used.iter().find_map(|file| std::fs::read_to_string(file).ok()?.trim().parse::<u64>().ok());
    // What a group of processes has read from files counts as used there, and is given back at once.
    let cached = || meminfo("Cached:").unwrap_or_default();
    let in_group = control_group().zip(used).map(|(limit, used)| limit.saturating_sub(used.saturating_sub(cached())));
    [Some(all), meminfo("MemAvailable:"), in_group].into_iter().flatten().min()
}

/// Bytes that the allocator of an opened device holds, of several the one that holds most; `None` where there's none.
pub fn held(devices: &[Device]) -> Option<u64> {
    devices.iter().filter_map(|device| Some(device.memory_pool_usage()?.bytes_reserved)).max()
}

fn physical() -> Option<u64> {
    meminfo("MemTotal:")
}

/// Read from Linux's `/proc`; other systems don't have it.
fn meminfo(field: &str) -> Option<u64> {
    let text = std::fs::read_to_string("/proc/meminfo").ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix(field))?;
    let kilobytes: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kilobytes * 1024)
}

/// What a container may take, by version 2 or 1 of control groups; a word, or a huge number, where there's no limit.
fn control_group() -> Option<u64> {
    let files = ["/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"];
    files.iter().find_map(|file| std::fs::read_to_string(file).ok()?.trim().parse().ok())
}

/// One field of what NVIDIA's tool says of a card, without its unit.
pub(super) fn nvidia(index: usize, field: &str) -> Option<String> {
    let mut command = Command::new("nvidia-smi");
    command.arg(format!("--query-gpu={field}")).args(["--format=csv,noheader,nounits", "--id"]).arg(index.to_string());
    let output = command.stderr(Stdio::null()).output().ok().filter(|output| output.status.success())?;
    Some(String::from_utf8(output.stdout).ok()?.trim().to_owned()).filter(|text| !text.is_empty())
}
