//! An artifact's record on its way: bytes from elsewhere, which are believed only as far as they can be checked.

use anyhow::{Result, ensure};

use crate::engine::store::Artifact;

/// The text of a record, as it lies in a store: it begins with a checksum of the rest.
///
/// # Errors
/// If it can't be written as JSON.
pub fn encode(artifact: &Artifact) -> Result<Vec<u8>> {
    artifact.text()
}

/// Reads the record of a key.
///
/// # Errors
/// If a byte of it was changed, it's of another key, or it contradicts itself: see [`Artifact::check`].
pub fn decode(text: &[u8], key: &str) -> Result<Artifact> {
    let artifact = Artifact::parse(text)?;
    ensure!(artifact.key == key, "the record belongs to another key");
    Ok(artifact)
}
