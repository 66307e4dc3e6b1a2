//! `pipe completions`.

use anyhow::Result;
use clap::CommandFactory;

use super::{args, console, exit::DONE};

/// `pipe completions`.
pub(super) fn completions(command: &args::Completions) -> Result<u8> {
    let mut script = Vec::new();
    clap_complete::generate(command.shell, &mut args::Arguments::command(), "pipe", &mut script);
    console::print(&String::from_utf8_lossy(&script))?;
    Ok(DONE)
}
