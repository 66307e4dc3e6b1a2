//! An artifact's record on its way: bytes from elsewhere, which are believed only as far as they can be checked.

use anyhow::{Result, ensure};
use serde_json::Value;

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
/// If a byte of it was changed, it's of another key, or it contradicts itself: see [`Artifact::check`]. The settings that it
/// shows have to be those that its key is made of, too: nobody is told that something was computed otherwise than it claims.
pub fn decode(text: &[u8], key: &str) -> Result<Artifact> {
    let artifact = Artifact::parse(text)?;
    ensure!(artifact.key == key, "the record belongs to another key");
    let (shown, keyed) = (&artifact.provenance.spec, &artifact.manifest.spec);
    ensure!(shown.is_null() || has(shown, keyed), "it shows other settings than those that its key is made of");
    Ok(artifact)
}

/// Whether a value has all of another one, which may leave out what equals a default.
fn has(whole: &Value, part: &Value) -> bool {
    match (whole, part) {
        (Value::Object(whole), Value::Object(part)) => {
            part.iter().all(|(key, part)| whole.get(key).is_some_and(|whole| has(whole, part)))
        }
        (Value::Array(whole), Value::Array(part)) => {
            whole.len() == part.len() && whole.iter().zip(part).all(|(whole, part)| has(whole, part))
        }
        (whole, part) => whole == part,
    }
}
