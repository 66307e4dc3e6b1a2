//! An artifact's record as it lies on disk: JSON whose first field is a checksum of every byte after it.

use anyhow::{Context, Result, ensure};
use serde::Serialize;

/// What a record begins with.
const BEGIN: &[u8] = b"{\n  \"checksum\": \"";
/// What a record of format 1 begins with, which had no checksum.
const UNSEALED: &[u8] = b"{\n  \"key\": \"";
/// Length of the checksum.
const DIGITS: usize = 64;

/// The largest record that is read, in bytes.
pub(super) const MAX_BYTES: u64 = 64 << 20;

/// Writes a record. Its first field must be the key.
///
/// # Errors
/// If it can't be written as JSON.
pub(super) fn seal(record: &impl Serialize) -> Result<Vec<u8>> {
    let text = serde_json::to_vec_pretty(record)?;
    let rest = [b"\",\n", text.strip_prefix(b"{\n").context("a record is an object")?].concat();
    Ok([BEGIN, checksum(&rest).as_bytes(), &rest].concat())
}

/// Checks that a record is as it was written.
///
/// # Errors
/// If a byte of it was changed, or it was cut short.
pub(super) fn check(text: &[u8]) -> Result<()> {
    if text.starts_with(UNSEALED) {
        return Ok(());
    }
    let sealed = text.strip_prefix(BEGIN).filter(|sealed| sealed.len() > DIGITS);
    let (checksum, rest) = sealed.context("it doesn't begin with a checksum")?.split_at(DIGITS);
    ensure!(checksum == self::checksum(rest).as_bytes(), "its checksum does not match");
    Ok(())
}

fn checksum(rest: &[u8]) -> String {
    blake3::hash(rest).to_hex().to_string()
}
