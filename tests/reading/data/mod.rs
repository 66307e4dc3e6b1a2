//! Files, rows, documents and tokenizers.

mod chat;
mod corpora;
mod documents;
mod embedded;
mod encodings;
mod files;
mod formats;
mod fuzz;
mod python_tables;
mod real;
mod tables;
mod tables_property;
mod tokenize;
mod tokenizer_config;
mod tokenizer_files;
mod tokenizer_parity;
mod tokenizer_training;
mod words;
