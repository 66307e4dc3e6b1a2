//! Tokenizers and sentences.

pub mod chat;
mod load;
mod sentences;
mod special;
mod tokenizer;
mod train;

pub use sentences::{sentence_ends, sentences};
pub use special::{ABSENT, Special, Specials};
pub use tokenizer::Tokenizer;
