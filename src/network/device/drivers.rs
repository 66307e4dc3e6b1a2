//! Whether a Vulkan driver takes the SPIR-V that CubeCL makes, or has to be given WGSL.
//!
//! Mesa 25.0's software driver ends the process on it (docs/mesa.md tells why), and no process can catch that. So each version
//! of a driver is tried once by a process of its own, which opens it and runs every kind of kernel, and the answer is kept
//! with the store's other caches for GPUs.

use std::{collections::BTreeMap, path::Path};

use anyhow::{Context, Result};
use burn::tensor::DeviceKind;
use parking_lot::Mutex;

use super::{apart::apart, caches::caches, gpu::gpu, wgsl};
use crate::support::program;

/// By driver, version and build of this program: why it can't take SPIR-V, or nothing if it can.
type Answers = BTreeMap<String, Option<String>>;

/// What this process has found out.
static KNOWN: Mutex<Answers> = Mutex::new(Answers::new());

/// Tells whether the driver of this GPU takes SPIR-V: as `PIPE_SPIRV` says, or as was found out. It's tried where nobody knows
/// yet; a program that embeds `pipe` and doesn't say where that is has none to try it with, and hopes.
///
/// # Errors
/// Why it doesn't.
pub(super) fn take_spirv(kind: &DeviceKind) -> Result<(), String> {
    match std::env::var("PIPE_SPIRV").as_deref() {
        Ok("0") => return Err("PIPE_SPIRV is 0".to_owned()),
        Ok("1") => return Ok(()),
        _ => {}
    }
    if program::path().is_err() {
        return Ok(());
    }
    let Some((_, adapter)) = wgsl::adapter(kind) else { return Ok(()) };
    let info = adapter.get_info();
    let build = cubecl_server::compiler::build_id_hash();
    let driver = format!("{} {}; {}; build {build}", info.driver, info.driver_info, info.name);
    let file = caches().map(|directory| directory.join("drivers.json"));
    let mut known = KNOWN.lock();
    if let Some(file) = &file {
        known.extend(read(file));
    }
    if let Some(answer) = known.get(&driver) {
        return answer.clone().map_or(Ok(()), Err);
    }
    tracing::info!(driver, "trying what the driver makes of SPIR-V");
    let answer = match apart("vulkan", &["--spirv"], gpu()) {
        Ok(Err(problem)) => Some(problem),
        Ok(Ok(info)) if info.usable => None,
        Ok(Ok(info)) if info.wrong => info.note,
        // That may be for now only, such as for want of memory.
        Ok(Ok(info)) => return Err(info.note.unwrap_or_default()),
        Err(_) => return Ok(()),
    };
    tracing::info!(driver, problem = answer, "tried what the driver makes of SPIR-V");
    known.insert(driver, answer.clone());
    if let Some(file) = &file {
        // Without it, the next process tries again.
        let _ = write(file, &known);
    }
    answer.map_or(Ok(()), Err)
}

fn read(file: &Path) -> Answers {
    let answers = std::fs::read(file).ok().and_then(|bytes| serde_json::from_slice(&bytes).ok());
    answers.unwrap_or_default()
}

/// Replaces the file by one with these.
fn write(file: &Path, answers: &Answers) -> Result<()> {
    let directory = file.parent().context("a file has a directory")?;
    fs_err::create_dir_all(directory)?;
    let mut part = tempfile::NamedTempFile::new_in(directory)?;
    serde_json::to_writer_pretty(&mut part, answers)?;
    part.persist(file)?;
    Ok(())
}
