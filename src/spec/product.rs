//! What stages leave for the stages after them.

use std::fmt;

/// Something that a stage's artifact has, and that other stages may ask for: fields with the role `stage:model` name a
/// stage that makes a model, of whichever kind it is.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Product {
    /// Corpora as token ids.
    Tokens,
    /// A tokenizer.
    Tokenizer,
    /// A model with its tokenizer, to continue training from, to evaluate or to generate with.
    Model,
    /// A model's files for others, in Hugging Face's layout.
    Checkpoint,
    /// A simple classifier to compare with.
    Baseline,
    /// What was measured.
    Report,
}

impl Product {
    /// All of them.
    pub const ALL: [Self; 6] =
        [Self::Tokens, Self::Tokenizer, Self::Model, Self::Checkpoint, Self::Baseline, Self::Report];

    /// The word for it in `x-role`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Tokens => "tokens",
            Self::Tokenizer => "tokenizer",
            Self::Model => "model",
            Self::Checkpoint => "checkpoint",
            Self::Baseline => "baseline",
            Self::Report => "report",
        }
    }

    /// The product of this name.
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|product| product.name() == name)
    }
}

impl fmt::Display for Product {
    /// As it's said in messages: `makes a model`, `makes no model`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Tokens => "encoded corpora",
            Self::Tokenizer => "tokenizer",
            Self::Model => "model",
            Self::Checkpoint => "checkpoint",
            Self::Baseline => "baseline",
            Self::Report => "report",
        })
    }
}
