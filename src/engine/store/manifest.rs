//! What an artifact is computed from: the only thing that its key depends on.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::canonical_json;

/// Everything that decides a stage's output. Two equal manifests stand for the same computation.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub struct Manifest {
    /// Version of the manifest's own form.
    pub format: u32,
    /// The stage's kind.
    pub kind: String,
    /// Version of the kind's code: raised whenever the same input would give another output.
    pub version: u32,
    /// The spec without what can't change the output, and without what is at its default.
    pub spec: Value,
    /// Digests of what the stage reads, by the field of the spec that names it.
    pub inputs: BTreeMap<String, String>,
    /// The seed, where the kind draws random numbers.
    pub seed: Option<u64>,
}

impl Manifest {
    /// The version of the form written by this code.
    pub const FORMAT: u32 = 1;

    /// BLAKE3 of the canonical JSON, in hexadecimal.
    pub fn key(&self) -> String {
        // A new field must be added here explicitly if it's a part of the key.
        let Self { format, kind, version, spec, inputs, seed } = self;
        let value = serde_json::json!({
            "format": format,
            "kind": kind,
            "version": version,
            "spec": spec,
            "inputs": inputs,
            "seed": seed,
        });
        blake3::hash(canonical_json(&value).as_bytes()).to_hex().to_string()
    }
}

/// Digits of a key that are shown to people.
pub(super) const SHORT: usize = 12;

/// The beginning of a key, as it's shown to people.
pub fn short(key: &str) -> &str {
    key.get(..SHORT).unwrap_or(key)
}
