//! Rows and documents out of files, tokenizers, and token shards in Parquet.

mod corpus;
mod decoding;
mod documents;
mod encoding;
mod guess;
mod lines;
mod parquet;
mod rows;
mod shards;
pub mod text;

pub use corpus::{Corpus, DocumentView, Ids};
pub use documents::{Document, Documents, documents};
pub use encoding::Encoding;
pub use lines::lines;
pub use rows::{Row, Rows, header, nested_rows, rows};
pub use shards::{SHARD, ShardWriter};
