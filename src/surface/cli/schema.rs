//! `pipe schema`.

use anyhow::Result;

use super::{DONE, progress};

/// `pipe schema`.
pub(super) fn schema() -> Result<u8> {
    progress::put(&crate::recipe::schema::text(crate::stages::catalog()))?;
    Ok(DONE)
}
