//! The program `pipe`, which starts itself again for what is to run in a process of its own.

use std::{path::PathBuf, sync::OnceLock};

use anyhow::{Context, Result};

static NAMED: OnceLock<PathBuf> = OnceLock::new();

/// Says where it is, once; the command line does. A program that embeds `pipe` does so too, or names it in `PIPE_PROGRAM`.
pub fn name(program: PathBuf) {
    let _ = NAMED.set(program);
}

/// Where it is.
///
/// # Errors
/// If nobody has said.
pub fn path() -> Result<PathBuf> {
    let said = std::env::var_os("PIPE_PROGRAM").map(PathBuf::from).or_else(|| NAMED.get().cloned());
    said.context("PIPE_PROGRAM doesn't name the program `pipe`")
}

/// Which build of the program it is: its version, and the beginning of its bytes' hash. Two that say the same compute alike.
///
/// # Errors
/// If it can't be found or read.
pub fn build() -> Result<String> {
    static BUILD: OnceLock<String> = OnceLock::new();
    if let Some(build) = BUILD.get() {
        return Ok(build.clone());
    }
    let path = path()?;
    let mut hasher = blake3::Hasher::new();
    let file = std::fs::File::open(&path).with_context(|| format!("can't read {}", path.display()))?;
    // In chunks that are large enough for it to hash several blocks at once: each job of a cluster does it.
    hasher.update_reader(file).with_context(|| format!("can't read {}", path.display()))?;
    let build = format!("{} ({})", env!("CARGO_PKG_VERSION"), &hasher.finalize().to_hex()[..12]);
    Ok(BUILD.get_or_init(|| build).clone())
}

/// Names the job of a cluster that this process is, for people; its script sets it.
pub const JOB: &str = "PIPE_JOB";

/// Whether this process is a job of a cluster.
pub fn is_job() -> bool {
    std::env::var_os(JOB).is_some()
}
