//! Files, rows, documents and tokenizers.

mod chat;
mod corpora;
mod documents;
mod embedded;
mod encodings;
mod files;
mod formats;
mod fuzz;
mod real;
mod tokenize;
mod tokenizer_files;
mod tokenizer_parity;
mod tokenizer_training;
