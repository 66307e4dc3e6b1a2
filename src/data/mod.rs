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
mod words;

pub use corpus::{Corpus, DocumentView, Ids};
pub use documents::{Document, Documents, check_documents, counted_documents, documents};
pub use encoding::Encoding;
pub use lines::lines;
pub use rows::{Row, Rows, check_rows, chosen_rows, columns, is_revised, rows};
pub use shards::{SHARD, ShardWriter};
pub use words::{CorpusWords, words_file};
