//! Tokenizers, sentences, words and n-grams.

pub mod chat;
mod load;
mod ngrams;
mod pieces;
mod readable;
mod segment;
mod sentences;
mod special;
mod tokenizer;
mod train;
mod transformers;

pub use ngrams::NGrams;
pub use pieces::Pieces;
pub use readable::Readable;
pub use segment::{VERSION as WORDS_VERSION, word_starts};
pub use sentences::{sentence_ends, sentences};
pub use special::{ABSENT, Special, Specials};
pub use tokenizer::Tokenizer;
pub use transformers::{Frame, TransformersTokenizer};
