//! Rows and documents out of files, and token shards in Parquet.

mod corpus;
mod documents;
mod lines;
mod parquet;
mod rows;
mod shards;
mod tokenize;

pub use corpus::{Corpus, DocumentView, Ids};
pub use documents::{Document, Documents, documents};
pub use rows::{Row, Rows, header, nested_rows, rows};
pub use shards::ShardWriter;
pub use tokenize::{Steps, tokenize};

pub use crate::metrics::text_hash;
