//! The `tokenize` stage.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Expectations, Source};

/// Trains or takes a tokenizer, and encodes corpora to token ids.
#[derive(Clone, Debug, Deserialize, JsonSchema, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Tokenize {
    /// How the tokenizer comes about
    #[schemars(extend("x-recorded" = "a tokenizer shows its settings"))]
    pub tokenizer: Tokenizer,
    /// What to encode, and what a new tokenizer is trained on
    #[serde(default)]
    pub corpus: Vec<Source>,
    /// Train the tokenizer on these instead of on `corpus`
    #[serde(default)]
    pub train_on: Vec<Source>,
    /// What its metrics have to be, by their names; a run in which one isn't ends with status 3
    #[serde(default)]
    #[schemars(extend("x-role" = "free"))]
    pub expect: Option<Expectations>,
}

/// A tokenizer to train, or one that exists. Trained ones get the special tokens `[PAD]`, `[UNK]`, `[CLS]`, `[SEP]`,
/// `[MASK]`, `[gMASK]`, `[sMASK]`, `<sop>` and `<eop>`; one that exists keeps its own.
#[derive(Clone, Debug, Deserialize, JsonSchema, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Tokenizer {
    /// Byte-level byte-pair encoding
    Bpe(Bpe),
    /// WordPiece, Chinese characters each on their own
    Wordpiece(WordPiece),
    /// Unigram language model
    Unigram(Unigram),
    /// An existing tokenizer: its file, or the directory that it lies in
    File(#[schemars(extend("x-role" = "tokenizer"))] String),
    /// The tokenizer of another stage
    Stage(#[schemars(extend("x-role" = "stage:tokenizer"))] String),
}

/// Byte-level byte-pair encoding, as GPT-2 has it.
#[derive(Clone, Debug, Deserialize, JsonSchema, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Bpe {
    /// Entries in the vocabulary, special tokens included
    #[schemars(range(min = 300))]
    pub vocab_size: usize,
    /// Pairs seen less often are not merged
    #[serde(default = "two")]
    pub min_frequency: u64,
}

/// WordPiece, as BERT has it.
#[derive(Clone, Debug, Deserialize, JsonSchema, Serialize)]
#[serde(deny_unknown_fields)]
pub struct WordPiece {
    /// Entries in the vocabulary, special tokens included
    #[schemars(range(min = 32))]
    pub vocab_size: usize,
    /// Pieces seen less often are left out
    #[serde(default = "two")]
    pub min_frequency: u64,
    /// Fold case and strip accents
    #[serde(default = "yes")]
    pub lowercase: bool,
}

/// A unigram language model over pieces, as SentencePiece has it; pieces may span several Chinese characters.
#[derive(Clone, Debug, Deserialize, JsonSchema, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Unigram {
    /// Entries in the vocabulary, special tokens included
    #[schemars(range(min = 32))]
    pub vocab_size: usize,
    /// The longest piece, in characters
    #[serde(default = "max_piece_length")]
    #[schemars(range(min = 1))]
    pub max_piece_length: usize,
    /// Fold case
    #[serde(default = "yes")]
    pub lowercase: bool,
}

fn two() -> u64 {
    2
}

fn yes() -> bool {
    true
}

fn max_piece_length() -> usize {
    16
}
