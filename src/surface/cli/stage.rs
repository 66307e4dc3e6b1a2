//! `pipe stage`: how a process computes a stage for the one that launched it.

use std::io::{stdin, stdout};

use anyhow::Result;

use super::{exit::Exit, interrupt};
use crate::session::launch;

/// `pipe stage`, with the job on stdin. It ends well where the stage's own failure could be reported.
pub(super) fn stage() -> Result<Exit> {
    interrupt::install_for_stages()?;
    interrupt::during(|| launch::compute(stdin(), stdout(), &interrupt::flag()))?;
    Ok(Exit::Done)
}
