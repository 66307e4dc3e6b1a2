//! An artifact's record on its way: bytes from elsewhere, which are believed only as far as they can be checked.

use anyhow::{Context, Result, ensure};

use crate::store::Artifact;

/// The text of a record: the digest of what follows, a line feed, and the artifact as JSON.
///
/// # Errors
/// If it can't be written as JSON.
pub fn encode(artifact: &Artifact) -> Result<Vec<u8>> {
    let json = serde_json::to_vec(artifact)?;
    let mut text = format!("{}\n", blake3::hash(&json).to_hex()).into_bytes();
    text.extend(json);
    Ok(text)
}

/// Reads the record of a key.
///
/// # Errors
/// If a byte of it was changed, it's of another key, or it contradicts itself: see [`Artifact::check`].
pub fn decode(text: &[u8], key: &str) -> Result<Artifact> {
    let (digest, json) = text.split_at_checked(64).context("it's cut off")?;
    let json = json.strip_prefix(b"\n").context("it doesn't begin with its digest")?;
    ensure!(digest == blake3::hash(json).to_hex().as_bytes(), "its digest doesn't fit");
    let artifact: Artifact = serde_json::from_slice(json).context("it can't be read")?;
    ensure!(artifact.key == key, "it's the record of another key");
    artifact.check()?;
    Ok(artifact)
}
