//! Tokenizers and sentences.

pub mod chat;
mod sentences;
mod special;
mod tokenizer;
mod train;

pub use sentences::sentences;
pub use special::Special;
pub use tokenizer::Tokenizer;
