//! Tokenizers, sentences, words and n-grams.

pub mod chat;
mod load;
mod ngrams;
mod pieces;
mod readable;
mod segment;
mod sentences;
mod share;
mod special;
mod tokenizer;
mod train;

pub use ngrams::NGrams;
pub use pieces::Pieces;
pub use readable::Readable;
pub use segment::{VERSION as WORDS_VERSION, word_starts};
pub use sentences::{sentence_ends, sentences};
pub use share::{Frame, SharedTokenizer};
pub use special::{ABSENT, Special, Specials};
pub use tokenizer::Tokenizer;
