//! Rows and documents out of files, and token shards in Parquet.

mod corpus;
mod documents;
mod lines;
mod rows;
mod shards;
mod tokenize;

pub use corpus::{Corpus, DocumentView, Ids};
pub use documents::{Document, Documents, documents};
pub use rows::{Row, Rows, header, rows};
pub use shards::ShardWriter;
pub use tokenize::tokenize;

/// A text's identity where duplicates and leaks are looked for: the first 8 bytes of the BLAKE3 of the trimmed text.
pub fn text_hash(text: &str) -> u64 {
    let hash = blake3::hash(text.trim().as_bytes());
    hash.as_bytes().iter().take(8).rev().fold(0, |value, &byte| value << 8 | u64::from(byte))
}
