//! What makes two texts the same.

/// Identifies a text: the first 8 bytes of the BLAKE3 of its UTF-8 without white space at the ends.
pub fn text_hash(text: &str) -> u64 {
    let hash = blake3::hash(text.trim().as_bytes());
    let [a, b, c, d, e, f, g, h, ..] = *hash.as_bytes();
    u64::from_le_bytes([a, b, c, d, e, f, g, h])
}
