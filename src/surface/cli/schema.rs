//! `pipe schema`.

use anyhow::Result;

use super::{console, exit::Exit};

/// `pipe schema`.
pub(super) fn schema() -> Result<Exit> {
    console::print(&crate::recipe::schema::text(crate::stages::catalog()))?;
    Ok(Exit::Done)
}
