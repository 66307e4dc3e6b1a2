//! `pipe completions`.

use anyhow::Result;
use clap::CommandFactory;

use super::{args, console, exit::Exit};

/// `pipe completions`.
pub(super) fn completions(command: &args::Completions) -> Result<Exit> {
    let mut script = Vec::new();
    clap_complete::generate(command.shell, &mut args::Arguments::command(), "pipe", &mut script);
    console::print(&String::from_utf8_lossy(&script))?;
    Ok(Exit::Done)
}
