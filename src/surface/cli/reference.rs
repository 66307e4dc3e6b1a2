//! `pipe reference`.

use std::io::ErrorKind;

use anyhow::Result;
use clap::CommandFactory;
use fs_err as fs;

use super::{
    args::{Arguments, Reference},
    console,
    exit::{self, Exit},
};
use crate::surface::reference;

/// `pipe reference [DIR]`: brings the generated pages of a checkout up to date, or names those that aren't.
pub(super) fn reference(command: &Reference) -> Result<Exit> {
    let mut stale = false;
    for (path, text) in reference::pages(&command.dir, Arguments::command(), &exit::table())? {
        let stored = match fs::read_to_string(&path) {
            Err(error) if error.kind() == ErrorKind::NotFound => String::new(),
            stored => stored?,
        };
        if stored == text {
            continue;
        }
        if command.check {
            stale = true;
            console::eprint_line(&format!("{} is out of date; `just docs` writes it", path.display()));
            continue;
        }
        if let Some(folder) = path.parent() {
            fs::create_dir_all(folder)?;
        }
        fs::write(&path, text)?;
        console::eprint_line(&format!("wrote {}", path.display()));
    }
    Ok(if stale { Exit::Failed } else { Exit::Done })
}
