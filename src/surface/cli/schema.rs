//! `pipe schema`.

use anyhow::Result;

use super::{console, exit::DONE};

/// `pipe schema`.
pub(super) fn schema() -> Result<u8> {
    console::print(&crate::recipe::schema::text(crate::stages::catalog()))?;
    Ok(DONE)
}
