//! What another process of this program says of a device, whose driver may end that process, or hold it forever.

use std::{
    io::Read,
    path::Path,
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};

use super::{caches::caches, gpu::environment};
use crate::{spec::Gpu, support::program};

/// A driver that hasn't compiled and run every kind of kernel by then never will.
const PATIENCE: Duration = Duration::from_secs(300);
/// How often it's looked whether it has.
const LOOK: Duration = Duration::from_millis(20);

/// A device, and what can be done with it.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
pub struct DeviceInfo {
    /// What to write after `--device`.
    pub device: String,
    /// Whether it can be used.
    pub usable: bool,
    /// Whether it can't be because it answers and is wrong.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub wrong: bool,
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

/// Has another process of this program open a device and do as `more` says. Its driver may end that process, or hold it
/// forever; then that's the answer. Its backend is kept to `gpu`.
///
/// # Errors
/// If this program can't be started again.
pub fn apart(device: &str, more: &[&str], gpu: Gpu) -> Result<Result<DeviceInfo, String>> {
    let mut command = Command::new(program::path()?);
    command.args(["devices", "--probe", device]).args(more);
    if let Some(store) = caches().as_deref().and_then(Path::parent) {
        // What it compiles needn't be compiled again.
        command.arg("--store").arg(store);
    }
    command.envs(environment(gpu));
    // It stays open as long as this process is there.
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
    let mut child = command.spawn().context("can't start this program again")?;
    let began = Instant::now();
    while child.try_wait()?.is_none() {
        if began.elapsed() > PATIENCE {
            child.kill()?;
            child.wait()?;
            return Ok(Err(format!("the driver didn't answer for {} s", PATIENCE.as_secs())));
        }
        std::thread::sleep(LOOK);
    }
    let output = child.wait_with_output()?;
    Ok(serde_json::from_slice(&output.stdout).map_err(|_| format!("the driver ended the process ({})", output.status)))
}

/// Ends this process when the one that asked it is gone, whatever the driver does: that's when stdin ends.
pub fn end_with_parent() {
    std::thread::spawn(|| {
        let _ = std::io::stdin().lock().read_to_end(&mut Vec::new());
        std::process::exit(1);
    });
}
