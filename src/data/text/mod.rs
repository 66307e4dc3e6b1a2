//! Tokenizers and sentences.

pub mod chat;
mod load;
mod readable;
mod sentences;
mod special;
mod tokenizer;
mod train;

pub use readable::Readable;
pub use sentences::sentences;
pub use special::{ABSENT, Special, Specials};
pub use tokenizer::Tokenizer;
