//! The normalisation rules that a model carries: a double-array trie over UTF-8 (units of 32 bits) whose leaves point at
//! replacements, each ended by a zero byte.

use anyhow::{Context, Result, ensure};
use tokenizers::normalizers::Precompiled;

/// Marks a unit that holds a leaf's value.
const LEAF: u32 = 1 << 31;

/// Reads the rules. The library follows their indices unchecked, so they're checked here.
pub(super) fn read(charsmap: &[u8]) -> Result<Precompiled> {
    let damaged = "the normalisation rules are damaged";
    let (size, rest) = charsmap.split_first_chunk().context(damaged)?;
    let (trie, replacements) = rest.split_at_checked(u32::from_le_bytes(*size) as usize).context(damaged)?;
    let replacements = std::str::from_utf8(replacements).context(damaged)?;
    let units: Vec<u32> = trie.as_chunks().0.iter().map(|unit| u32::from_le_bytes(*unit)).collect();
    let sound = |(index, &unit): (usize, &u32)| match unit & LEAF {
        0 => (index ^ offset(unit)) | 0xFF < units.len(),
        _ => replacements.is_char_boundary((unit & !LEAF) as usize),
    };
    ensure!(!units.is_empty() && units.iter().enumerate().all(sound), damaged);
    Ok(Precompiled::from(charsmap)?)
}

/// How far a unit's children lie away.
fn offset(unit: u32) -> usize {
    ((unit >> 10) << ((unit & (1 << 9)) >> 6)) as usize
}
