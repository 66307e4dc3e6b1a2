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
